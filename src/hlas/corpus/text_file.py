"""Sentences of a text that the user gives, dealt to the splits of a spoken corpus."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hlas.corpus.sentences import Texts, spelled
from hlas.errors import UserError
from hlas.manifests.language.sentences import BadLine, open_sentences

MAX_WORDS = 20  # about 10 s: longer ones are seldom read aloud in Common Voice, and cost a training much memory

Unfit = Literal["bad_row", "not_utf8", "no_words", "digits", "too_long", "repeated"]


@dataclass(slots=True)
class Found:
    """The sentences of a file that can be read aloud, and how many cannot, by reason."""

    usable: list[str]
    dropped: Counter[Unfit]

    @property
    def read(self) -> int:
        """Lines of the file; usable + dropped."""
        return len(self.usable) + self.dropped.total()


def find_sentences(path: Path) -> Found:
    """The file's sentences in its order, each once; how it is read: `hlas.manifests.language.sentences`."""
    found = Found([], Counter())
    seen: set[tuple[str, ...]] = set()
    for line in _lines(path):
        text = "" if isinstance(line, BadLine) else " ".join(line.split())
        words = spelled(text)
        reason = line.reason if isinstance(line, BadLine) else _unfit(words)
        if reason is None and words in seen:
            reason = "repeated"
        if reason:
            found.dropped[reason] += 1
        else:
            seen.add(words)
            found.usable.append(text)
    return found


def _lines(path: Path) -> Iterator[str | BadLine]:
    file = open_sentences(path)
    for start, stop in file.blocks():
        yield from file.read(start, stop)


def _unfit(words: tuple[str, ...]) -> Unfit | None:
    if not words:
        return "no_words"
    if any(char.isdigit() for word in words for char in word):
        return "digits"  # how an inflecting language reads them is not written down
    return "too_long" if len(words) > MAX_WORDS else None


def deal_sentences(found: Found, path: Path, seed: int, counts: Mapping[str, int]) -> Texts:
    """Sentences for `train`, `dev` and `test` (`counts`), and what is left for `lm`, no more than asked for.

    Test and dev do not depend on how many sentences train has.

    Raises:
        UserError: the file has too few sentences.

    """
    needed = counts["test"] + counts["dev"] + counts["train"]
    if len(found.usable) < needed:
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(found.dropped.items())) or "none dropped"
        problem = f"{len(found.usable)} of {found.read} sentences can be read aloud ({reasons}), {needed} are needed"
        raise UserError(str(path), problem, "give more text, or lower train_clips, dev_clips or test_clips")
    shuffled = iter(random.Random(f"{seed}/text").sample(found.usable, len(found.usable)))
    test, dev, train = (tuple(next(shuffled) for _ in range(counts[split])) for split in ("test", "dev", "train"))
    lm = tuple(sentence for sentence, _ in zip(shuffled, range(counts["lm"]), strict=False))
    return Texts(train, dev, test, lm, held_out=frozenset())
