"""LM text: sentences from manifests and text files, normalised, each once, without those of dev and test.

Text goes from disk to disk: normalised by several processes, block by block, then written again without repeats.
Sentences keep the order of the files.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any

from hlas.files import atomic_text
from hlas.line_blocks import Block, check_lines, read_blocks
from hlas.manifests.rows import read_manifest
from hlas.manifests.text import Language


@dataclass(frozen=True, slots=True)
class Source:
    """A text file (one sentence a line, plain or .gz) or a manifest (.jsonl) whose sentences go into an LM."""

    path: Path
    label: str
    normalised: bool = False  # the rows' text has been through the language's rules already

    @property
    def is_manifest(self) -> bool:
        """Whether the file holds manifest rows."""
        return self.path.suffix == ".jsonl"


@dataclass(slots=True)
class Counts:
    """What became of one source's sentences; read = kept + removed + duplicates + all rejected."""

    label: str
    read: int = 0
    kept: int = 0
    words: int = 0  # of the kept sentences
    removed: int = 0  # sentences of dev or test
    duplicates: int = 0  # dropped
    rejected: Counter[str] = field(default_factory=Counter)  # reason -> sentences

    def to_json(self) -> dict[str, Any]:
        """For the stage's summary."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"rejected": dict(sorted(self.rejected.items()))}

    @property
    def shown(self) -> str:
        """One line for the log."""
        reasons = "".join(f", {reason} {n}" for reason, n in sorted(self.rejected.items()))
        return (
            f"{self.label}: kept {self.kept} of {self.read} sentences: "
            f"in dev or test {self.removed}, duplicates {self.duplicates}{reasons}"
        )


def sentences_of(manifests: Iterable[Path], language: Language) -> set[str]:
    """The normalised sentences of manifests, to be kept out of an LM."""
    out: set[str] = set()
    for path in manifests:
        for row in read_manifest(path):
            # a manifest made elsewhere may hold text that these rules have not seen
            out |= {row.text, language.normalise(row.text)}
    return out - {""}


def write_sentences(
    out: Path,
    sources: Sequence[Source],
    excluded: set[str],
    language: Language,
    *,
    dedupe: bool = True,
    workers: int = 1,
) -> list[Counts]:
    """Write the accepted sentences of all sources, one a line, and count every drop by source and reason.

    Memory does not grow with the text; `dedupe` takes as much disk again. Raises UserError for a file that is missing,
    damaged or not UTF-8, with the line.
    """
    from hlas.lm.repeats import Repeats

    result = [Counts(source.label) for source in sources]
    with tempfile.TemporaryDirectory(prefix=".text.", dir=out.parent) as name:
        scratch = Path(name)
        repeats = Repeats(scratch) if dedupe else None
        accepted = scratch / "accepted" if dedupe else out
        with atomic_text(accepted) as file:
            for source, counts in zip(sources, result, strict=True):
                for block in _blocks(source, language, scratch, workers):
                    kept = [sentence for sentence in block.accepted if sentence not in excluded]
                    counts.read += block.lines
                    counts.rejected.update(block.rejected)
                    counts.removed += len(block.accepted) - len(kept)
                    counts.kept += len(kept)
                    counts.words += sum(sentence.count(" ") + 1 for sentence in kept)
                    file.writelines(f"{sentence}\n" for sentence in kept)
                    if repeats:
                        repeats.add(kept)
        if repeats:
            _drop_repeats(accepted, out, repeats.flags(), result)
    return result


def _blocks(source: Source, language: Language, scratch: Path, workers: int) -> Iterator[Block]:
    if not source.is_manifest:
        yield from read_blocks(source.path, language, source.label, scratch, workers)
        return
    rows = read_manifest(source.path)
    if not source.normalised:
        yield check_lines(language, (row.text for row in rows))
        return
    texts = [row.text for row in rows if row.text]
    empty = len(rows) - len(texts)
    yield Block(len(rows), texts, Counter({"no_text": empty} if empty else {}))


def _drop_repeats(accepted: Path, out: Path, flags: Iterable[bool], result: Sequence[Counts]) -> None:
    """Copy the sentences that are no repeats; the counts of each source are mended."""
    is_repeat = iter(flags)
    with accepted.open(encoding="utf-8", newline="\n") as sentences, atomic_text(out) as file:
        for counts in result:
            for sentence, repeat in zip(islice(sentences, counts.kept), is_repeat, strict=False):
                if repeat:
                    counts.kept -= 1
                    counts.duplicates += 1
                    counts.words -= sentence.count(" ") + 1
                else:
                    file.write(sentence)
