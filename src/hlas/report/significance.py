"""How far a WER is to be trusted: bootstrap intervals, and tests between two systems on the same utterances.

The bootstrap is that of M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance
evaluation", ICASSP 2004: draw as many units as there are, with replacement, sum their errors and their words, divide.
All systems see the same draws, so the difference of two columns is the paired bootstrap of their difference. The other
test, matched pairs of segments, is in `mapsswe.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hlas.report.mapsswe import Mapsswe, smallest_p

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SPEAKERS_NEEDED = 10  # with fewer, a bootstrap over speakers says little: utterances are drawn instead
SIGNIFICANT = 0.05
FEW_UNITS = 10  # with fewer, the bootstrap's percentiles are far too close together
ENOUGH_UNITS = 30  # from here on its p is taken as it is
RESAMPLES_A_PAIR = 60  # at least: the smallest p, 2 / (resamples + 1), times the pairs of systems must get below 0.05
_WEIGHTS_AT_ONCE = 1 << 22  # elements of the weights matrix held at a time: 16 MiB
_EXACT_IN_FLOAT32 = 1 << 24  # whole numbers up to here, and so their sums, are exact in single precision
_Z_INTERVAL, _Z_POWER = 1.959964, 0.841621  # normal quantiles of 97.5 % and of 80 %


@dataclass(frozen=True, slots=True)
class Units:
    """What the bootstrap draws. Utterances without words belong to no unit, as they change no rate."""

    kind: Literal["speaker", "utterance"]
    of: Ints  # (utterances,) index of the utterance's unit, -1 for none
    count: int
    speakers: int  # distinct known speakers

    @property
    def note(self) -> str:
        """What the interval covers, in words."""
        if self.kind == "speaker":
            return f"95 % intervals resample the {self.count} speakers"
        return (
            f"95 % intervals resample the {self.count} utterances, as {self.speakers} speakers are known "
            f"(or not all are): they do not cover what new speakers would change"
            + (", and of so few they are too narrow" if self.count < FEW_UNITS else "")
        )


def choose_units(speakers: Sequence[str], words: Ints) -> Units:
    """Speakers if every utterance has one and there are at least 10, else utterances.

    `speakers` has a name ('' = unknown) and `words` the number of reference words of each utterance.
    """
    scored = np.flatnonzero(words)
    names = [speakers[i] for i in scored]
    known = sorted({name for name in names if name})
    if len(known) >= SPEAKERS_NEEDED and all(names):
        index = {name: i for i, name in enumerate(known)}
        of = np.full(len(words), -1, np.int64)
        of[scored] = [index[name] for name in names]
        return Units("speaker", of, len(known), len(known))
    return utterance_units(words, len(known))


def utterance_units(words: Ints, speakers: int = 0) -> Units:
    """Each utterance that has words is a unit; `speakers` are known."""
    scored = np.flatnonzero(words)
    of = np.full(len(words), -1, np.int64)
    of[scored] = np.arange(len(scored))
    return Units("utterance", of, len(scored), speakers)


def resampled_sums(totals: Sequence[Floats], units: int, resamples: int, seed: int) -> list[Floats]:
    """Sums over the units drawn: for each (units, columns) array of whole numbers one of (resamples, columns).

    All arrays see the same draws, which the seed and the number of units decide.
    """
    largest = max((float(t.sum(axis=0).max(initial=0)) for t in totals), default=0.0)
    # single precision is twice as fast; a resample's sum is not four times that of the data
    kind = np.float32 if 4 * largest < _EXACT_IN_FLOAT32 else np.float64
    columns: list[npt.NDArray[np.floating[Any]]] = [np.ascontiguousarray(t, kind) for t in totals]
    rng = np.random.default_rng(seed)
    rows = max(1, _WEIGHTS_AT_ONCE // units)
    sums: list[Floats] = [np.empty((resamples, t.shape[1])) for t in totals]
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(0, units, (size, units))
        drawn += np.arange(size)[:, None] * units
        counts = np.bincount(drawn.ravel(), minlength=size * units)
        weights: npt.NDArray[np.floating[Any]] = counts.reshape(size, units).astype(kind)
        for own, column in zip(sums, columns, strict=True):
            own[start : start + size] = weights @ column
    return sums


def unit_totals(columns: Sequence[Ints], units: Units) -> Floats:
    """Per-utterance counts summed for each unit: (units, columns)."""
    inside = units.of >= 0
    sums = [np.bincount(units.of[inside], column[inside], units.count) for column in columns]
    return np.stack(sums, axis=1) if sums else np.zeros((units.count, 0))


def bootstrap_wer(errors: Sequence[Ints], words: Sequence[Ints], units: Units, resamples: int, seed: int) -> Floats:
    """WER of every system on every resample: (resamples, systems).

    `errors` and `words` hold a (utterances,) array for each system: the references' words are the same for all, but
    where texts of several normalisers are compared. The same seed draws the same units whatever the number of systems.
    """
    totals = unit_totals([*errors, *words], units)
    (sums,) = resampled_sums([totals], units.count, resamples, seed)
    return np.asarray(sums[:, : len(errors)] / sums[:, len(errors) :], np.float64)


def interval95(values: Floats) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of a (resamples,) array."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def two_sided_p(differences: Floats) -> float:
    """Two-sided p of 'no difference': twice the rarer sign's share of the (resamples,) differences.

    A zero counts for both signs and one is added to each count, so identical systems have p = 1 and no p is 0: the
    smallest is 2 / (resamples + 1). One minus half of p is Bisani and Ney's probability of improvement, but for that.
    """
    rarer = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return float(min(1.0, 2.0 * (rarer + 1) / (len(differences) + 1)))


def paired_p(differences: Floats, difference: float, units: int) -> float:
    """Two-sided p of the paired bootstrap; with fewer than 30 units no less than that of Student's t test.

    Resamples of a handful of units agree with each other by chance: one utterance would prove anything. `differences`
    are those of the (resamples,), `difference` that of the data.
    """
    p = two_sided_p(differences)
    if units >= ENOUGH_UNITS:
        return p
    if np.ptp(differences) == 0:  # every unit says the same
        return max(p, smallest_p(units))
    error = float(differences.std(ddof=1)) * math.sqrt(units / (units - 1))  # a resample's variance has n, not n - 1
    return max(p, student_p(difference / error, units - 1))


def student_p(t: float, freedom: int) -> float:
    """Two-sided p of Student's t: the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan(abs(t) / math.sqrt(freedom))
    odd = freedom % 2
    term, total = math.cos(angle) ** odd, 0.0
    for k in range(odd, freedom - 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (k + 1) / (k + 2)
    inside = math.sin(angle) * total
    return min(1.0, max(0.0, 1 - (2 / math.pi * (angle + inside) if odd else inside)))


def holm(p_values: Sequence[float], tests: int = 0) -> list[float]:
    """S. Holm, "A simple sequentially rejective multiple test procedure", 1979: adjusted p in the order given.

    Rejecting where the adjusted p is below 0.05 keeps the chance of any false finding below 5 %, whatever the tests
    have in common. `tests`: of how many these were picked after looking; those left out are taken to have p = 1.
    """
    tests = max(tests, len(p_values))
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (tests - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def hours_needed(hours: float, difference: float, standard_error: float) -> float | None:
    """Hours of such speech for a true difference of this size to show: 95 % interval without 0, with 80 % power.

    The variance of a difference of means falls with the amount of data, so that
    hours * ((1.96 + 0.84) * standard_error / difference)^2 is enough. None where there is no difference, or no
    variance to judge it by.
    """
    if difference == 0 or standard_error == 0 or hours <= 0:
        return None
    return hours * ((_Z_INTERVAL + _Z_POWER) * standard_error / difference) ** 2


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on the same utterances; a negative `wer_delta` says that `b` makes fewer errors."""

    a: str
    b: str
    split: str
    wer_delta: float  # WER of b minus WER of a
    wer_delta_ci95: tuple[float, float]
    p_value: float  # of the paired bootstrap
    p_holm: float  # the same, corrected for all pairs of systems in the report
    test: str
    mapsswe: Mapsswe | None  # None where the two were scored against other references
    hours: float  # of audio compared
    hours_needed: float | None  # see `hours_needed`

    @property
    def significant(self) -> bool:
        """Whether chance is an unlikely explanation: the paired bootstrap's p after Holm is below 0.05."""
        return self.p_holm < SIGNIFICANT

    def to_json(self) -> dict[str, Any]:
        """The entry in metrics.json."""
        return {
            "a": self.a,
            "b": self.b,
            "split": self.split,
            "wer_delta": self.wer_delta,
            "wer_delta_ci95": list(self.wer_delta_ci95),
            "p_value": self.p_value,
            "p_holm": self.p_holm,
            "test": self.test,
            "mapsswe": self.mapsswe.to_json() if self.mapsswe else None,
            "hours": self.hours,
            "hours_needed": self.hours_needed,
        }


def describe_test(units: Units, resamples: int) -> str:
    """The test in words, for metrics.json and the page."""
    least = ", but no less than Student's t test gives" if units.count < ENOUGH_UNITS else ""
    return f"paired bootstrap over {units.count} {units.kind}s, {resamples} resamples, two-sided{least}"
