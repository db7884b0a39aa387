"""What lies behind one split's WERs, as plain results: groups of utterances, fairness gaps, confusions, unique words.

`groups.py` and `confusions.py` compute them, metrics.json carries them, the page and Markdown show them. Wherever a
tuple has one entry a system, the order is that of `SplitResult.systems`. An index names an utterance by its place in
`SplitResult.rows`.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

Dimension = Literal[
    "duration",
    "duration_quarter",
    "text_length",
    "char_rate",
    "snr",
    "speaker",
    "gender",
    "age",
    "accent",
    "oov",
]
SMALL_GROUP_WORDS = 100  # with fewer reference words a group is marked, and no gap is measured against it


@dataclass(frozen=True, slots=True)
class GroupScore:
    """One system on one group."""

    system: str
    errors: int  # S + D + I
    wer: float | None  # None where the group's references hold no word
    ci95: tuple[float, float] | None  # bootstrap percentiles; None where `wer` is None

    def to_json(self) -> dict[str, Any]:
        """For metrics.json."""
        return {"errors": self.errors, "wer": self.wer, "wer_ci95": list(self.ci95) if self.ci95 else None}


@dataclass(frozen=True, slots=True)
class Group:
    """Utterances that have something in common."""

    label: str  # '5 to 15 s', 'female_feminine', 'unknown', '37 other speakers': plain text
    utterances: int
    words: int  # of the references
    audio_s: float
    speakers: int  # distinct known speakers
    small: bool  # fewer than SMALL_GROUP_WORDS words: shown and marked, its WER means little
    known: bool  # False for the group of utterances of which the corpus does not say it ('unknown')
    scores: tuple[GroupScore, ...]  # one a system
    members: Ints  # (utterances,) indices into SplitResult.rows, ascending

    def to_json(self) -> dict[str, Any]:
        """For metrics.json, without the members."""
        return {
            "label": self.label,
            "utterances": self.utterances,
            "words": self.words,
            "audio_s": round(self.audio_s, 3),
            "speakers": self.speakers,
            "small": self.small,
            "systems": {score.system: score.to_json() for score in self.scores},
        }


@dataclass(frozen=True, slots=True)
class Gap:
    """One system's fairness gap: the WER of its worst group minus that of its best, of the known groups not small.

    The interval holds for all pairs of groups at once (max-t bootstrap), as the two are named after looking: one that
    holds 0 shows no gap.
    """

    system: str
    worst: str  # label of the group with the highest WER
    best: str
    gap: float
    ci95: tuple[float, float]

    @property
    def shown(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.ci95[0] > 0

    def to_json(self) -> dict[str, Any]:
        """For metrics.json."""
        return {"worst": self.worst, "best": self.best, "gap": self.gap, "gap_ci95": list(self.ci95)}


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The utterances of a split divided by one property."""

    name: Dimension
    title: str  # 'Duration', 'Speaker', … for a heading
    groups: tuple[Group, ...]  # in their natural order: ranges ascending, names by words, 'unknown' last
    gaps: tuple[Gap, ...]  # one a system; empty with fewer than two known groups that are not small
    unit: Literal["speaker", "utterance"]  # what the intervals resample
    note: str  # what a reader has to know of this division; '' = nothing

    def to_json(self) -> dict[str, Any]:
        """For metrics.json."""
        return {
            "dimension": self.name,
            "ci_unit": self.unit,
            "groups": [group.to_json() for group in self.groups],
            "gaps": {gap.system: gap.to_json() for gap in self.gaps},
        }


@dataclass(frozen=True, slots=True)
class Confusion:
    """One kind of error and how often a system makes it; '' on the reference's side = inserted, on the other = lost."""

    reference: str
    hypothesis: str
    count: int
    of: int  # times that the reference's word (or character) stands in the references; 0 for an insertion

    def to_json(self) -> list[Any]:
        """[reference, hypothesis, count, of]."""
        return [self.reference, self.hypothesis, self.count, self.of]


@dataclass(frozen=True, slots=True)
class Confusions:
    """What one system takes for what, the commonest first; at most KEPT of each (see confusions.py)."""

    system: str
    substituted: tuple[Confusion, ...]  # words
    deleted: tuple[Confusion, ...]
    inserted: tuple[Confusion, ...]
    characters: tuple[Confusion, ...]  # all three kinds of edit; a space is shown as ' '

    def to_json(self) -> dict[str, Any]:
        """For metrics.json."""
        return {
            "substituted": [c.to_json() for c in self.substituted],
            "deleted": [c.to_json() for c in self.deleted],
            "inserted": [c.to_json() for c in self.inserted],
            "characters": [c.to_json() for c in self.characters],
        }


@dataclass(frozen=True, slots=True)
class OnlyRight:
    """Reference words that one system alone gets right."""

    system: str
    words: int  # occurrences, all of them
    utterances: int  # that hold such a word
    commonest: tuple[tuple[str, int], ...]  # (word, occurrences), the commonest first; at most KEPT

    def to_json(self) -> dict[str, Any]:
        """For metrics.json."""
        return {
            "words": self.words,
            "utterances": self.utterances,
            "commonest": [list(item) for item in self.commonest],
        }


@dataclass(frozen=True, slots=True)
class VocabularyRecall:
    """How many reference words one system gets right, apart for words that the LM knows and that it does not."""

    system: str
    known_words: int  # occurrences in the references of words that the LM knows
    known_right: int
    oov_words: int
    oov_right: int

    def to_json(self) -> dict[str, Any]:
        """For metrics.json."""
        return {
            "known_words": self.known_words,
            "known_right": self.known_right,
            "oov_words": self.oov_words,
            "oov_right": self.oov_right,
        }


@dataclass(frozen=True, slots=True)
class Analysis:
    """Everything below the totals of one split."""

    breakdowns: tuple[Breakdown, ...]  # only those that the data can be divided by: two groups or more
    confusions: tuple[Confusions, ...]  # one a system
    only_right: tuple[OnlyRight, ...]  # one a system; empty for a single system
    worst: tuple[tuple[int, ...], ...]  # one a system: indices of its worst utterances, most errors first
    vocabulary: tuple[VocabularyRecall, ...]  # one a system; empty where no LM's word list is at hand
    lm: str  # name of the LM whose words `vocabulary` and the breakdown 'oov' go by; '' without one

    def breakdown(self, name: Dimension) -> Breakdown | None:
        """The breakdown of that name, if there is one."""
        return next((item for item in self.breakdowns if item.name == name), None)
