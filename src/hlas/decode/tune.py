"""Alpha, beta and the width of a search, tuned on dev at the cost of a few decodes instead of one a point of the grid.

A narrow search costs a sixth of the wide one, and its error rates rise and fall over the grid as the wide one's do. So
a few points, spread over the grid, are decoded narrowly; then the best of them and the best next to them widely. The
chosen point is one that was decoded widely; every other one is estimated between the narrow decodes.
Rescoring the points from n-best lists would be cheaper, but is not exact enough: it knows nothing of what a search
prunes at other weights (tools/bench/tuning.py measures both).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

from hlas.errors import UserError

SPREAD = (5, 3)  # values of alpha and of beta that are decoded narrowly
FIRST, NEXT = 2, 2  # wide decodes: of the narrowly best points, then one by one around the best
MIN_NARROW, NARROWER = 16, 6  # least width, and its ratio, of the narrow search


@dataclass(frozen=True, slots=True)
class Weights:
    """How much the LM counts: score = log p(acoustic) + alpha * log p(LM) + beta * words."""

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        """Refuse what has no order: a search sorts by scores."""
        if not (isfinite(self.alpha) and isfinite(self.beta)):
            raise ValueError(f"alpha and beta are finite: {self.alpha}, {self.beta}")


@dataclass(frozen=True)
class Grid:
    """The values that are tried."""

    alpha: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9, 1.2)
    beta: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
    width: tuple[int, ...] = ()  # tried at the best alpha and beta; none: the search's own width only

    def __post_init__(self) -> None:
        """Check that each axis holds rising values."""
        for name, values in (("alpha", self.alpha), ("beta", self.beta), ("width", self.width)):
            if list(values) != sorted(set(values)) or not all(map(isfinite, values)) or not (values or name == "width"):
                raise ValueError(f"{name} takes one or more values, each larger than the one before")
        if self.alpha[0] < 0:
            raise ValueError("alpha is not negative")
        if self.width and self.width[0] < 1:
            raise ValueError("width is at least 1")

    def points(self) -> list[Weights]:
        """All pairs of alpha and beta, by alpha."""
        return [Weights(alpha, beta) for alpha in self.alpha for beta in self.beta]


@dataclass(frozen=True, slots=True)
class Rates:
    """Corpus-level error rates, as fractions of the reference's words and characters."""

    wer: float
    cer: float


@dataclass(frozen=True, slots=True)
class Point:
    """Weights and what they reach."""

    weights: Weights
    rates: Rates
    redecoded: bool = True  # False: estimated, from decodes of a narrower search
    width: int | None = None  # None where the width was not tuned

    @property
    def rank(self) -> tuple[float, ...]:
        """Smaller is better: WER, then CER, then the smaller alpha, beta and width."""
        return (self.rates.wer, self.rates.cer, self.weights.alpha, self.weights.beta, self.width or 0)

    def to_json(self) -> dict[str, Any]:
        """A row of tuning.json."""
        row = {**asdict(self.weights), **asdict(self.rates), "redecoded": self.redecoded}
        return row if self.width is None else row | {"width": self.width}


@dataclass(frozen=True, slots=True)
class Tuned:
    """The outcome of tuning."""

    chosen: Point
    table: tuple[Point, ...]  # the whole grid by alpha and beta, then other widths at the best of these
    at_edge: tuple[str, ...]  # 'alpha', 'beta': the best value is the grid's first or last; a wider grid may be better

    @property
    def decodes(self) -> int:
        """How many points were decoded as the final search decodes."""
        return sum(point.redecoded for point in self.table)

    def to_json(self) -> dict[str, Any]:
        """For tuning.json."""
        table = [point.to_json() for point in self.table]
        return {"chosen": self.chosen.to_json(), "decodes": self.decodes, "table": table}


# the rates of searches with each of the weights, at a width
Decode = Callable[[Sequence[Weights], int], Sequence[Rates]]


def tune(grid: Grid, width: int, decode: Decode) -> Tuned:
    """The grid's best weights for a search of that width; no point is decoded twice at one width."""
    points = grid.points()
    narrow = min(width, max(MIN_NARROW, width // NARROWER))
    wide: dict[Weights, Rates] = {}

    def search(wanted: Sequence[Weights]) -> None:
        new = [weights for weights in wanted if weights not in wide]
        wide.update(zip(new, decode(new, width) if new else (), strict=True))

    if len(points) <= FIRST + NEXT:
        search(points)
        return _outcome(grid, wide, {})
    axes = _spread(grid.alpha, SPREAD[0]), _spread(grid.beta, SPREAD[1])
    lattice = [Weights(alpha, beta) for alpha in axes[0] for beta in axes[1]]
    rough = dict(zip(lattice, decode(lattice, narrow), strict=True))
    estimates = _between(grid, axes, rough)
    if narrow == width:
        wide.update(rough)
    search(sorted(lattice, key=lambda weights: Point(weights, rough[weights]).rank)[:FIRST])
    for _ in range(NEXT):
        best = min(wide, key=lambda weights: Point(weights, wide[weights]).rank)
        if around := [weights for weights in _neighbours(grid, best) if weights not in wide]:
            search([min(around, key=lambda weights: Point(weights, estimates[weights]).rank)])
    return _outcome(grid, wide, estimates)


def _spread(values: Sequence[float], count: int) -> list[float]:
    """At most so many of the values, evenly spread, the ends included."""
    last, steps = len(values) - 1, min(count, len(values)) - 1
    return [values[round(i * last / steps)] for i in range(steps + 1)] if steps else [values[0]]


def _neighbours(grid: Grid, weights: Weights) -> list[Weights]:
    """The up to eight points around one: diagonals too, as a larger alpha goes with a larger beta."""
    a, b = grid.alpha.index(weights.alpha), grid.beta.index(weights.beta)
    alphas, betas = grid.alpha[max(0, a - 1) : a + 2], grid.beta[max(0, b - 1) : b + 2]
    return [found for alpha in alphas for beta in betas if (found := Weights(alpha, beta)) != weights]


def _between(
    grid: Grid, axes: tuple[Sequence[float], Sequence[float]], rough: dict[Weights, Rates]
) -> dict[Weights, Rates]:
    """Rates of every point, bilinear between those of a lattice whose corners are the grid's."""
    import numpy as np

    def spread_out(name: str) -> list[float]:
        known = [[getattr(rough[Weights(alpha, beta)], name) for beta in axes[1]] for alpha in axes[0]]
        rows = np.array([np.interp(grid.beta, axes[1], row) for row in known])
        columns = np.array([np.interp(grid.alpha, axes[0], column) for column in rows.T])
        return [float(value) for value in columns.T.ravel()]

    rates = zip(spread_out("wer"), spread_out("cer"), strict=True)
    return {weights: Rates(wer, cer) for weights, (wer, cer) in zip(grid.points(), rates, strict=True)}


def _outcome(grid: Grid, wide: dict[Weights, Rates], estimates: dict[Weights, Rates]) -> Tuned:
    """The best of the decoded points; estimates are moved by what the wide search gains on average."""
    both = [weights for weights in wide if weights in estimates]
    gain_wer = sum(estimates[w].wer - wide[w].wer for w in both) / max(1, len(both))
    gain_cer = sum(estimates[w].cer - wide[w].cer for w in both) / max(1, len(both))
    table = []
    for weights in grid.points():
        if weights in wide:
            table.append(Point(weights, wide[weights]))
        else:
            rough = estimates[weights]
            rates = Rates(max(0.0, rough.wer - gain_wer), max(0.0, rough.cer - gain_cer))
            table.append(Point(weights, rates, redecoded=False))
    chosen = min((point for point in table if point.redecoded), key=lambda point: point.rank)
    best = chosen.weights
    return Tuned(chosen, tuple(table), axes_at_edge(alpha=(best.alpha, grid.alpha), beta=(best.beta, grid.beta)))


def axes_at_edge(**axes: tuple[float, Sequence[float]]) -> tuple[str, ...]:
    """The axes, each its chosen value and all its values, whose chosen one is the first or the last."""
    return tuple(
        name
        for name, (value, values) in axes.items()
        # an alpha of 0 has no other side
        if len(values) > 1 and value in (values[0], values[-1]) and (name, value) != ("alpha", 0)
    )


def edge_warnings(at_edge: Sequence[str]) -> list[str]:
    """What to do about axes whose best value may lie outside."""
    return [f"the best {name} is at the grid's edge: widen grid.{name}" for name in at_edge]


def tune_width(outcome: Tuned, widths: Sequence[int], own: int, decode: Decode) -> Tuned:
    """The best of several widths at the chosen weights; `own` is the width that alpha and beta were tuned with."""
    table = [replace(point, width=own) for point in outcome.table]
    first = replace(outcome.chosen, width=own)
    others = [Point(first.weights, decode([first.weights], width)[0], width=width) for width in widths if width != own]
    chosen = min((point for point in (first, *others) if point.width in widths), key=lambda point: point.rank)
    return replace(outcome, chosen=chosen, table=(*table, *others))


def reference_size(references: Sequence[str]) -> tuple[int, int]:
    """Words and characters that errors are divided by; an empty reference does not count, as in the report."""
    scored = [reference for reference in references if reference.split()]
    if not scored:
        raise UserError("tuning", "no reference holds a word", "tune on a split with transcripts")
    return sum(len(reference.split()) for reference in scored), sum(map(len, scored))


def error_rates(references: Sequence[str], hypotheses: Sequence[str]) -> Rates:
    """WER and CER of normalised texts."""
    words, characters = reference_size(references)
    edits = [count_edits(reference, hypothesis) for reference, hypothesis in zip(references, hypotheses, strict=True)]
    return Rates(sum(edit[0] for edit in edits) / words, sum(edit[1] for edit in edits) / characters)


def count_edits(reference: str, hypothesis: str) -> tuple[int, int]:
    """Word and character errors of one utterance; none where the reference is empty."""
    from rapidfuzz.distance import Levenshtein

    words = reference.split()
    if not words or reference == hypothesis:
        return 0, 0
    return Levenshtein.distance(words, hypothesis.split()), Levenshtein.distance(reference, hypothesis)
