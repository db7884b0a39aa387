"""Alpha and beta of an LM, tuned on dev: a search over a grid that scores far fewer points than the grid has.

The line of all alphas at the middle beta, then all betas at the best alpha, then the neighbours of the best point
(diagonals too, as a larger alpha goes with a larger beta) until none is better. Every point is scored on the whole
split with the same search as the final one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hlas.errors import UserError


@dataclass(frozen=True, slots=True)
class Weights:
    """How much the LM counts: score = log p(acoustic) + alpha * log p(LM) + beta * words."""

    alpha: float
    beta: float


@dataclass(frozen=True)
class Grid:
    """The values that are tried."""

    alpha: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9, 1.2)
    beta: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)

    def __post_init__(self) -> None:
        """Check that each axis holds rising values."""
        for name, values in (("alpha", self.alpha), ("beta", self.beta)):
            if not values or list(values) != sorted(set(values)):
                raise ValueError(f"{name} takes one or more values, each larger than the one before")
        if self.alpha[0] < 0:
            raise ValueError("alpha is not negative")


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

    @property
    def rank(self) -> tuple[float, ...]:
        """Smaller is better: WER, then CER, then the smaller alpha and beta."""
        return (self.rates.wer, self.rates.cer, self.weights.alpha, self.weights.beta)

    def to_json(self) -> dict[str, float]:
        """A row of tuning.json."""
        return {
            "alpha": self.weights.alpha,
            "beta": self.weights.beta,
            "wer": self.rates.wer,
            "cer": self.rates.cer,
        }


@dataclass(frozen=True, slots=True)
class Tuned:
    """The outcome of tuning."""

    chosen: Point
    table: tuple[Point, ...]  # every point that was scored, by alpha and beta
    at_edge: tuple[str, ...]  # 'alpha', 'beta': the best value is the grid's first or last; a wider grid may be better


def tune(grid: Grid, evaluate: Callable[[Sequence[Weights]], Sequence[Rates]]) -> Tuned:
    """Find the grid's best weights; `evaluate` scores several at once and is never given a point twice."""
    points: dict[tuple[int, int], Point] = {}

    def score(cells: Sequence[tuple[int, int]]) -> tuple[int, int]:
        new = [cell for cell in cells if cell not in points]
        weights = [Weights(grid.alpha[a], grid.beta[b]) for a, b in new]
        if new:
            rates = evaluate(weights)
            points.update({c: Point(w, r) for c, w, r in zip(new, weights, rates, strict=True)})
        return min(points, key=lambda cell: points[cell].rank)

    n_alpha, n_beta = len(grid.alpha), len(grid.beta)
    a, b = score([(i, n_beta // 2) for i in range(n_alpha)])
    a, b = score([(a, j) for j in range(n_beta)])
    while True:
        around = [
            (i, j) for i in range(a - 1, a + 2) for j in range(b - 1, b + 2) if 0 <= i < n_alpha and 0 <= j < n_beta
        ]
        best = score(around)
        if best == (a, b):
            break
        a, b = best
    edges = (("alpha", a, n_alpha), ("beta", b, n_beta))
    at_edge = tuple(name for name, i, n in edges if n > 1 and i in (0, n - 1))
    return Tuned(points[a, b], tuple(points[cell] for cell in sorted(points)), at_edge)


def error_rates(references: Sequence[str], hypotheses: Sequence[str]) -> Rates:
    """WER and CER of normalised texts; an empty reference does not count, as in the report."""
    from rapidfuzz.distance import Levenshtein

    word_errors = words = character_errors = characters = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        if reference_words := reference.split():
            words += len(reference_words)
            characters += len(reference)
            if reference != hypothesis:
                word_errors += Levenshtein.distance(reference_words, hypothesis.split())
                character_errors += Levenshtein.distance(reference, hypothesis)
    if not words:
        raise UserError("tuning", "no reference holds a word", "tune on a split with transcripts")
    return Rates(word_errors / words, character_errors / characters)
