"""WER by groups of utterances, each with its bootstrap interval, and the fairness gap between groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hlas.manifests.rows import Row
from hlas.report.breakdown import SMALL_GROUP_WORDS, Breakdown, Gap, Group, GroupScore
from hlas.report.dimensions import UNKNOWN, Division
from hlas.report.significance import SPEAKERS_NEEDED, Units, interval95, resampled_sums, utterance_units

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ELEMENTS_AT_ONCE = 1 << 26  # of the tables that are resampled together: 512 MiB


@dataclass(frozen=True, slots=True)
class Counted:
    """What the systems made of a split."""

    rows: Sequence[Row]
    names: Sequence[str]  # of the systems
    errors: Sequence[Ints]  # (utterances,) of each system
    words: Sequence[Ints]  # the same, of its references
    units: Units  # of the whole split
    resamples: int
    seed: int


@dataclass(frozen=True, slots=True)
class _Grouped:
    """A division with each utterance's group as a number."""

    division: Division
    of: Ints  # (utterances,) index into division.order
    small: tuple[bool, ...]
    units: Units

    @property
    def compared(self) -> list[int]:
        """The groups between which a gap is measured."""
        apart = (UNKNOWN, self.division.gathered)
        return [g for g, label in enumerate(self.division.order) if label not in apart and not self.small[g]]


def break_down(counted: Counted, divisions: Sequence[Division]) -> list[Breakdown]:
    """The breakdown of each division, in their order."""
    grouped = [_group(counted, division) for division in divisions]
    sums = _resample(counted, grouped)
    return [_breakdown(counted, item, part) for item, part in zip(grouped, sums, strict=True)]


def _group(counted: Counted, division: Division) -> _Grouped:
    place = {label: g for g, label in enumerate(division.order)}
    of = np.array([place[label] for label in division.labels], np.int64)
    words = np.bincount(of, counted.words[0], len(place))
    small = tuple(bool(count < SMALL_GROUP_WORDS) for count in words)
    units = counted.units
    if units.kind == "speaker":
        speakers = [len({counted.rows[i].speaker for i in np.flatnonzero(of == g)}) for g in range(len(place))]
        # a group of few speakers would be resampled as good as not at all
        if any(n < SPEAKERS_NEEDED for n, is_small in zip(speakers, small, strict=True) if not is_small):
            units = utterance_units(np.sum(counted.words, axis=0))
    return _Grouped(division, of, small, units)


def _columns(counted: Counted, item: _Grouped) -> Floats:
    """(units, 2 * systems * groups): errors of each system in each group, then its words in each."""
    groups, units = len(item.division.order), item.units
    inside = units.of >= 0
    cell = units.of[inside] * groups + item.of[inside]
    sums = [
        np.bincount(cell, column[inside], units.count * groups).reshape(units.count, groups)
        for column in (*counted.errors, *counted.words)
    ]
    return np.concatenate(sums, axis=1)


def _resample(counted: Counted, grouped: Sequence[_Grouped]) -> list[Floats]:
    """For each division (resamples, 2 * systems, groups) sums; those with the same units see the same draws."""
    out: dict[int, Floats] = {}
    waiting: list[int] = []
    elements = 0

    def flush() -> None:
        totals = [_columns(counted, grouped[i]) for i in waiting]
        units = grouped[waiting[0]].units
        for i, sums in zip(waiting, resampled_sums(totals, units.count, counted.resamples, counted.seed), strict=True):
            out[i] = sums.reshape(counted.resamples, 2 * len(counted.names), -1)
        waiting.clear()

    for i in sorted(range(len(grouped)), key=lambda i: grouped[i].units.kind):
        item = grouped[i]
        size = item.units.count * 2 * len(counted.names) * len(item.division.order)
        if waiting and (grouped[waiting[0]].units.kind != item.units.kind or elements + size > _ELEMENTS_AT_ONCE):
            flush()
            elements = 0
        waiting.append(i)
        elements += size
    if waiting:
        flush()
    return [out[i] for i in range(len(grouped))]


def _breakdown(counted: Counted, item: _Grouped, sums: Floats) -> Breakdown:
    systems = len(counted.names)
    with np.errstate(invalid="ignore", divide="ignore"):  # a small group may not be drawn at all
        resampled = sums[:, :systems] / sums[:, systems:]  # (resamples, systems, groups)
    division = item.division
    groups = tuple(_group_result(counted, item, g, resampled[:, :, g]) for g in range(len(division.order)))
    compared = item.compared
    gaps = tuple(
        _gap(name, [groups[g] for g in compared], s, resampled[:, s, compared])
        for s, name in enumerate(counted.names)
        if len(compared) > 1
    )
    return Breakdown(division.name, division.title, groups, gaps, item.units.kind, division.note)


def _group_result(counted: Counted, item: _Grouped, g: int, resampled: Floats) -> Group:
    members = np.flatnonzero(item.of == g)
    rows = [counted.rows[i] for i in members]
    scores = []
    for s, name in enumerate(counted.names):
        errors, words = int(counted.errors[s][members].sum()), int(counted.words[s][members].sum())
        drawn = resampled[:, s][np.isfinite(resampled[:, s])]
        scores.append(GroupScore(name, errors, errors / words if words else None, interval95(drawn) if words else None))
    return Group(
        label=item.division.order[g],
        utterances=len(members),
        words=int(counted.words[0][members].sum()),
        audio_s=sum(row.duration for row in rows),
        speakers=len({row.speaker for row in rows if row.speaker}),
        small=item.small[g],
        known=item.division.order[g] != UNKNOWN,
        scores=tuple(scores),
        members=members,
    )


def _gap(name: str, groups: Sequence[Group], system: int, resampled: Floats) -> Gap:
    """The widest of all differences between two groups, with an interval that holds for all of them at once.

    The largest of the resamples' studentised deviations, over all pairs, takes the place of the normal quantile
    (the max-t bootstrap: Romano and Wolf, "Exact and approximate stepdown methods for multiple hypothesis testing",
    JASA 2005): the two groups were picked for being furthest apart, and an interval of one pair would ignore that.
    `resampled` is (resamples, groups).
    """
    wers = np.array([group.scores[system].wer for group in groups], np.float64)
    best, worst = int(wers.argmin()), int(wers.argmax())
    drawn = resampled[np.isfinite(resampled).all(axis=1)]
    first, second = np.triu_indices(len(groups), 1)
    deviation = (drawn[:, first] - drawn[:, second]) - (wers[first] - wers[second])
    error = deviation.std(axis=0)
    varies = error > 0
    largest = np.max(np.abs(deviation[:, varies]) / error[varies], axis=1) if varies.any() else np.zeros(1)
    reach = float(np.percentile(largest, 95)) * float((drawn[:, worst] - drawn[:, best]).std())
    gap = float(wers[worst] - wers[best])
    return Gap(name, groups[worst].label, groups[best].label, gap, (gap - reach, gap + reach))
