"""What characters the sentences of a file hold: counted for the draft of a language spec."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from hlas.manifests.language.sentences import BadLine, SentenceFile
from hlas.manifests.text import APOSTROPHES, HYPHENS
from hlas.parallel import map_chunks
from hlas.progress import track

LATIN_LOOKALIKES = dict(zip("aceiïjopxyBHKMT", "асеіїјорхувнкмт", strict=True))  # as Cyrillic letters look
_FIT_TO_SHOW = range(15, 90)  # characters of a sentence that can be a golden case
_MOST_SHOWN = 2000

_INNER_MARK = re.compile(rf"(?<=[^\W\d_])[{re.escape(APOSTROPHES + HYPHENS)}](?=[^\W\d_])")
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(slots=True)
class CharacterCounts:
    """What the sentences of a file, or of a block of it, hold."""

    sentences: int = 0
    characters: Counter[str] = field(default_factory=Counter)  # in lower case -> sentences that hold it
    inner_marks: Counter[str] = field(default_factory=Counter)  # apostrophe or hyphen in a word -> sentences
    lookalikes: Counter[str] = field(default_factory=Counter)  # Latin letter in a Cyrillic word -> sentences
    candidates: list[str] = field(default_factory=list)  # sentences that can be golden cases

    def add(self, raw: str) -> None:
        """Count one sentence."""
        text = unicodedata.normalize("NFC", raw)
        self.sentences += 1
        self.characters.update(set(text.lower()))
        self.inner_marks.update(set(_INNER_MARK.findall(text)))
        if max(text) >= "\u0400" and not set(text).isdisjoint(LATIN_LOOKALIKES):
            mixed = [word for word in _WORD.findall(text) if any("\u0400" <= c <= "\u04ff" for c in word)]
            self.lookalikes.update({c for word in mixed for c in word if c in LATIN_LOOKALIKES})
        if len(text) in _FIT_TO_SHOW and text.isprintable() and len(self.candidates) < _MOST_SHOWN:
            self.candidates.append(raw)

    def merge(self, later: "CharacterCounts") -> None:
        """Add the counts of a later part of the file."""
        self.sentences += later.sentences
        self.characters.update(later.characters)
        self.inner_marks.update(later.inner_marks)
        self.lookalikes.update(later.lookalikes)
        self.candidates += later.candidates[: _MOST_SHOWN - len(self.candidates)]

    def inside_words(self, marks: str) -> int:
        """How often sentences have one of these marks between two letters."""
        return sum(self.inner_marks[mark] for mark in marks)

    def share(self, count: int) -> float:
        """That many sentences as a share of all."""
        return count / max(self.sentences, 1)


def count_characters(file: SentenceFile, workers: int = 1) -> CharacterCounts:
    """Count the characters of a file; lines without a sentence are left out."""
    blocks = file.blocks()
    counts = CharacterCounts()
    for part in track(map_chunks(_BlockCounter(file), blocks, workers=workers, chunk_size=1), "count", len(blocks)):
        counts.merge(part)
    return counts


@dataclass(frozen=True, slots=True)
class _BlockCounter:
    """Counts blocks of a file, in whichever process."""

    file: SentenceFile

    def __call__(self, blocks: Sequence[tuple[int, int]]) -> list[CharacterCounts]:
        return [self._count(*block) for block in blocks]

    def _count(self, start: int, stop: int) -> CharacterCounts:
        counts = CharacterCounts()
        for sentence in self.file.read(start, stop):
            if not isinstance(sentence, BadLine) and sentence.strip():
                counts.add(sentence)
        return counts
