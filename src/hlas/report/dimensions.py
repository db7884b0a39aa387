"""The properties that a split's utterances are divided by, and the label of each utterance."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from hlas.manifests.rows import Row
from hlas.report.breakdown import Dimension

UNKNOWN = "unknown"
GROUPS_SHOWN = 40  # of one property: those with the most words; the others become one group
AGES = ("teens", "twenties", "thirties", "fourties", "fifties", "sixties", "seventies", "eighties", "nineties")
_SHORT_NAME = 8  # characters of a speaker's name, if they tell all apart

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Division:
    """One property: what each utterance is labelled, and the labels in the order they are shown."""

    name: Dimension
    title: str
    labels: tuple[str, ...]  # one an utterance
    order: tuple[str, ...]  # 'unknown' last, where there is any
    note: str = ""
    gathered: str = ""  # the label of the groups that are too many to be shown; '' = none


def divisions(rows: Sequence[Row], words: Sequence[int], lm: str, lm_words: frozenset[str]) -> list[Division]:
    """Every property that divides the utterances into two groups or more.

    `words` holds the number of reference words of each row; `lm_words` the words that the LM of that name knows.
    """
    durations = [row.duration or None for row in rows]
    found = [
        _ranges("duration", "Duration", durations, np.array([5.0, 15.0]), "s"),
        _quarters("duration_quarter", "Duration, quarters", durations, "s"),
        _quarters("text_length", "Length of the text", [n or None for n in words], "words"),
        _quarters("char_rate", "Speaking rate", [_rate(row) for row in rows], "characters a second"),
        _quarters("snr", "Noise: estimated signal to noise ratio", [row.snr_db for row in rows], "dB"),
        _names("speaker", "Speaker", _shortened([row.speaker for row in rows]), words),
        _names("gender", "Gender", [row.gender for row in rows], words),
        _names("age", "Age", [row.age for row in rows], words, AGES),
        _names("accent", "Accent", [row.accents for row in rows], words),
    ]
    if lm_words:
        found.append(_oov(rows, words, lm, lm_words))
    return [division for division in found if len(division.order) > 1]


def _rate(row: Row) -> float | None:
    """Characters without spaces for each second."""
    characters = len(row.text) - row.text.count(" ")
    return characters / row.duration if row.duration and characters else None


def _ranges(
    name: Dimension, title: str, values: Sequence[float | None], edges: Floats, unit: str, note: str = ""
) -> Division:
    """Groups with values below the first edge, from each edge on, …; a value at an edge belongs above it."""
    whole = all(v is None or float(v).is_integer() for v in (*values, *edges)) and unit == "words"
    known = _whole_labels([int(edge) for edge in edges], unit) if whole else _labels([f"{e:.3g}" for e in edges], unit)
    labels = [UNKNOWN if v is None else known[int(np.searchsorted(edges, v, side="right"))] for v in values]
    return Division(name, title, tuple(labels), _present([*known, UNKNOWN], labels), note)


def _labels(edges: Sequence[str], unit: str) -> list[str]:
    between = [f"{low} to {high} {unit}" for low, high in pairwise(edges)]
    return [f"below {edges[0]} {unit}", *between, f"{edges[-1]} {unit} and more"]


def _whole_labels(edges: Sequence[int], unit: str) -> list[str]:
    """For counts: '3 to 5 words' holds both 3 and 5."""
    between = [f"{low} {unit}" if high == low + 1 else f"{low} to {high - 1} {unit}" for low, high in pairwise(edges)]
    return [f"up to {edges[0] - 1} {unit}", *between, f"{edges[-1]} {unit} and more"]


def _quarters(name: Dimension, title: str, values: Sequence[float | None], unit: str) -> Division:
    """Four groups of about as many utterances; fewer where many have the same value."""
    known = np.array([v for v in values if v is not None], np.float64)
    edges = np.zeros(0)
    if len(known):
        # rounded as they are shown, so that a label says what is in its group
        edges = np.unique([float(f"{edge:.3g}") for edge in np.quantile(known, [0.25, 0.5, 0.75], method="higher")])
        edges = edges[edges > known.min()]
    if not len(edges):
        return Division(name, title, (UNKNOWN,) * len(values), (UNKNOWN,))
    return _ranges(name, title, values, edges, unit, "Quarters of the utterances.")


def _names(
    name: Dimension, title: str, values: Sequence[str], words: Sequence[int], order: Sequence[str] = ()
) -> Division:
    """A group for each name, in the order given where all are in it, else the one with the most words first.

    '' is unknown.
    """
    size: Counter[str] = Counter()
    for value, count in zip(values, words, strict=True):
        size[value] += count
    names = sorted((value for value in size if value), key=lambda value: (-size[value], value))
    if not names:
        return Division(name, title, (UNKNOWN,) * len(values), (UNKNOWN,))
    gathered, note = "", ""
    if len(names) > GROUPS_SHOWN:
        gathered = f"{len(names) - GROUPS_SHOWN + 1} others"
        note = f"The {GROUPS_SHOWN - 1} with the most words of {len(names)}; the others are one group."
        names = names[: GROUPS_SHOWN - 1]
    if set(names) <= set(order):
        names = [name for name in order if name in names]
    shown = set(names)
    labels = [value if value in shown else gathered if value else UNKNOWN for value in values]
    return Division(name, title, tuple(labels), _present([*names, gathered, UNKNOWN], labels), note, gathered)


def _shortened(names: Sequence[str]) -> list[str]:
    """Names cut to as few characters as tell them apart, and not below eight: Common Voice's have 128."""
    different = set(names)
    longest = max(map(len, different), default=0)
    for length in range(_SHORT_NAME, longest):
        if len({name[:length] for name in different}) == len(different):
            return [name[:length] for name in names]
    return list(names)


def _oov(rows: Sequence[Row], words: Sequence[int], lm: str, known: frozenset[str]) -> Division:
    labels = ["all words known", "with unknown words"]
    chosen = [
        (labels[0] if known.issuperset(row.text.split()) else labels[1]) if count else UNKNOWN
        for row, count in zip(rows, words, strict=True)
    ]
    note = f"Known: in the word list of the language model {lm}."
    return Division("oov", "Words unknown to the LM", tuple(chosen), _present([*labels, UNKNOWN], chosen), note)


def _present(order: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    there = set(labels)
    return tuple(label for label in order if label and label in there)
