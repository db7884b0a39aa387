"""Transcripts through the language's rules, in parallel: the first look at the rows of a corpus.

Each different sentence is checked once, and travels to the workers as one text a block.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from hlas.manifests.text import Language
from hlas.parallel import map_chunks
from hlas.progress import track

if TYPE_CHECKING:
    import polars as pl

BLOCK = 16384  # sentences a worker takes at a time; fewer than two blocks are not worth a second process
_TAG = re.compile(r"\[([^\[\]]{1,40})\]")  # [noise], [unclear] …: the corpus' remarks, not words
TagPolicy = Literal["keep", "drop", "reject"]


@dataclass(frozen=True, slots=True)
class Tags:
    """What becomes of [tags] in transcripts."""

    drop: tuple[str, ...] = ()  # these are cut out: a sound that is no word
    reject: tuple[str, ...] = ()  # a row with one of these is rejected: speech that is not written down
    others: TagPolicy = "keep"  # keep: brackets are punctuation, and what they hold is words

    def __post_init__(self) -> None:
        """Refuse a tag with two rules."""
        if twice := sorted(set(map(_tag_name, self.drop)) & set(map(_tag_name, self.reject))):
            raise ValueError(f"tags: '{twice[0]}' is both dropped and rejected")

    def policy(self, tag: str) -> TagPolicy:
        """The rule for a tag, in capitals or not."""
        name = _tag_name(tag)
        if name in map(_tag_name, self.reject):
            return "reject"
        return "drop" if name in map(_tag_name, self.drop) else self.others


def _tag_name(tag: str) -> str:
    return tag.strip().lower()


class CheckedBlock(NamedTuple):
    """A block of sentences after the rules."""

    texts: str  # normalised, one a line
    rejects: list[tuple[int, str, str]]  # place in the block, reason, detail


@dataclass(frozen=True, slots=True)
class TranscriptCheck:
    """Checks blocks of sentences, one a line; a function for `map_chunks`."""

    language: Language
    tags: Tags

    def __call__(self, blocks: Sequence[str]) -> list[CheckedBlock]:
        """One result a block."""
        return [self._check(block.split("\n")) for block in blocks]

    def _check(self, sentences: Sequence[str]) -> CheckedBlock:
        texts: list[str] = []
        rejects: list[tuple[int, str, str]] = []
        for place, sentence in enumerate(sentences):
            plain, rejected = self._without_tags(sentence) if "[" in sentence else (sentence, "")
            checked = self.language.check(plain)
            texts.append(checked.text)
            if rejected:
                rejects.append((place, "tag", rejected))
            elif checked.reason:
                rejects.append((place, checked.reason, checked.detail))
        return CheckedBlock("\n".join(texts), rejects)

    def _without_tags(self, sentence: str) -> tuple[str, str]:
        """The sentence without the tags that are dropped, and those that reject it."""
        found = [(match[0], self.tags.policy(match[1])) for match in _TAG.finditer(sentence)]
        rejecting = " ".join(tag for tag, policy in found if policy == "reject")
        plain = _TAG.sub(lambda match: match[0] if self.tags.policy(match[1]) == "keep" else " ", sentence)
        return plain, rejecting


def check_transcripts(sentences: "pl.Series", check: TranscriptCheck, workers: int) -> "pl.DataFrame":
    """Columns sentence (each once), text (normalised), text_reason ('' = accepted) and text_detail."""
    import polars as pl

    different = sentences.unique(maintain_order=True)
    lines = different.str.replace_all("\n", " ", literal=True)
    blocks = [lines.slice(start, BLOCK).str.join("\n").item() for start in range(0, len(lines), BLOCK)]
    results = map_chunks(check, blocks, workers=workers, chunk_size=1)
    texts: list[pl.Series] = []
    rejects: list[tuple[int, str, str]] = []
    for number, block in enumerate(track(results, "text", len(blocks), "blocks")):
        texts.append(pl.Series("text", block.texts.split("\n"), pl.String))
        rejects += [(number * BLOCK + place, reason, detail) for place, reason, detail in block.rejects]
    out = pl.DataFrame({"sentence": different, "text": pl.concat(texts) if texts else pl.Series([], dtype=pl.String)})
    schema = {"row": pl.UInt32(), "text_reason": pl.String(), "text_detail": pl.String()}
    return (
        out.with_row_index("row")
        .join(pl.DataFrame(rejects, schema, orient="row"), on="row", how="left", maintain_order="left")
        .drop("row")
        .with_columns(pl.col("text_reason", "text_detail").fill_null(""))
    )
