"""Which rows of a release become utterances, and why the others do not, before any audio is read."""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Literal, NamedTuple, TypeVar

from hlas.manifests.common_voice import BadRow, Clip, clip_file
from hlas.manifests.text import Language

T = TypeVar("T")
OverlapPolicy = Literal["reject", "keep"]


class Pending(NamedTuple):
    """A row whose text is good."""

    clip: Clip
    file: str  # below clips/
    text: str  # normalised
    overlaps: tuple[str, ...]  # what it shares with a split before it, where that is kept


class Reject(NamedTuple):
    """A row that gives no utterance."""

    clip: str  # path in the table, or 'line N'
    reason: str
    detail: str


class Screen:
    """Judges the rows of one split after the other, the most protected first: test, dev, train.

    No clip of an earlier split appears in a later one, and no speaker and no sentence unless that is allowed.
    Every row of an earlier split counts, also one that was itself rejected or not chosen.
    """

    def __init__(
        self, language: Language, speakers: OverlapPolicy, sentences: OverlapPolicy, max_words: int | None
    ) -> None:
        self._language = language
        self._rejects = {"speaker": speakers == "reject", "sentence": sentences == "reject"}
        self._max_words = max_words
        self._names: dict[str, str] = {}  # utterance -> split, and so on
        self._speakers: dict[str, str] = {}
        self._sentences: dict[str, str] = {}

    def judge(self, rows: Iterable[Clip | BadRow]) -> list[Pending | Reject]:
        """One verdict a row."""
        seen: set[str] = set()
        return [self._judge(row, seen) for row in rows]

    def protect(self, split: str, rows: Iterable[Clip | BadRow]) -> None:
        """Keep what these rows hold out of the splits judged from now on."""
        for row in rows:
            if isinstance(row, Clip):
                self._names.setdefault(_utterance(row), split)
                self._speakers.setdefault(row.speaker, split)
                self._sentences.setdefault(self._language.normalise(row.sentence), split)

    def _judge(self, clip: Clip | BadRow, seen: set[str]) -> Pending | Reject:
        if isinstance(clip, BadRow):
            return Reject(f"line {clip.line}", "bad_row", clip.detail)
        file = clip_file(clip.path)
        if not file:
            return Reject(clip.path, "bad_path", "not a file name below clips/")
        name = _utterance(clip)
        if name in seen or name in self._names:
            where = "twice in this split" if name in seen else f"also in {self._names[name]}"
            return Reject(clip.path, "duplicate_clip", where)
        seen.add(name)
        checked = self._language.check(clip.sentence)
        if checked.reason:
            return Reject(clip.path, checked.reason, f"{checked.detail} in: {clip.sentence}".removeprefix(" in: "))
        words = checked.text.count(" ") + 1
        if self._max_words is not None and words > self._max_words:
            return Reject(clip.path, "too_many_words", str(words))
        overlaps = []
        for kind, split, value in (
            ("speaker", self._speakers.get(clip.speaker) if clip.speaker else None, clip.speaker),
            ("sentence", self._sentences.get(checked.text), clip.sentence),
        ):
            if split is None:
                continue
            if self._rejects[kind]:
                return Reject(clip.path, f"{kind}_in_{split}", value)
            overlaps.append(f"{kind}_in_{split}")
        return Pending(clip, file, checked.text, tuple(overlaps))


def evenly(rows: Sequence[T], limit: int | None) -> list[T]:
    """At most `limit` rows, spread evenly over all, always the same ones."""
    if limit is None or limit >= len(rows):
        return list(rows)
    return [rows[i * len(rows) // limit] for i in range(limit)]


def _utterance(clip: Clip) -> str:
    return PurePosixPath(clip.path).stem
