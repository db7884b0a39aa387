"""LM text: sentences from manifests and text files, normalised, without those of dev and test.

Text files are read in blocks by several processes; sentences keep the order of the files.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.files import atomic_text
from hlas.manifests.rows import read_manifest
from hlas.manifests.text import Language
from hlas.parallel import map_chunks
from hlas.progress import track

BLOCK_BYTES = 4 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Source:
    """A text file (one sentence a line) or a manifest (.jsonl) whose sentences go into an LM."""

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

    Raises UserError for a missing file and for one that is not UTF-8, with the line.
    """
    seen: set[bytes] = set()  # digests: a tenth of the memory of the sentences
    result = []
    with atomic_text(out) as file:
        for source in sources:
            counts = Counts(source.label)
            result.append(counts)
            blocks = (
                _manifest_block(source, language) if source.is_manifest else _file_blocks(source, language, workers)
            )
            for block in blocks:
                counts.read += block.lines
                counts.rejected.update(block.rejected)
                for sentence in block.accepted:
                    if sentence in excluded:
                        counts.removed += 1
                        continue
                    if dedupe:
                        digest = blake2b(sentence.encode(), digest_size=12).digest()
                        if digest in seen:
                            counts.duplicates += 1
                            continue
                        seen.add(digest)
                    counts.kept += 1
                    counts.words += sentence.count(" ") + 1
                    file.write(sentence + "\n")
    return result


@dataclass(frozen=True, slots=True)
class _Block:
    """The sentences of a part of a source."""

    lines: int
    accepted: list[str]
    rejected: Counter[str]
    undecodable: str = ""  # the decoder's message; `lines` is then the number of lines before the bad one


def _manifest_block(source: Source, language: Language) -> Iterator[_Block]:
    rows = read_manifest(source.path)
    if source.normalised:
        accepted = [row.text for row in rows if row.text]
        yield _Block(
            len(rows), accepted, Counter({"no_text": len(rows) - len(accepted)} if len(accepted) < len(rows) else {})
        )
    else:
        yield _check(language, (row.text for row in rows))


def _file_blocks(source: Source, language: Language, workers: int) -> Iterator[_Block]:
    if not source.path.is_file():
        raise UserError(str(source.path), "no such text file", "check the path under 'text'")
    ranges = list(_line_ranges(source.path, BLOCK_BYTES))
    checker = _Checker(source.path, language)
    before = 0
    for block in track(map_chunks(checker, ranges, workers=workers, chunk_size=1), source.label, len(ranges), "blocks"):
        before += block.lines
        if block.undecodable:
            raise UserError(
                f"{source.path}:{before + 1}",
                f"not UTF-8: {block.undecodable}",
                "convert the file: iconv -f <its encoding> -t utf-8",
            )
        yield block


def _line_ranges(path: Path, size: int) -> Iterator[tuple[int, int]]:
    """Byte ranges of about `size` that end at line ends and cover the file."""
    start, total = 0, path.stat().st_size
    with path.open("rb") as file:
        while start < total:
            file.seek(min(start + size, total))
            file.readline()
            stop = file.tell()
            yield start, stop
            start = stop


@dataclass(frozen=True, slots=True)
class _Checker:
    """Reads and checks byte ranges of a file, in whichever process."""

    path: Path
    language: Language

    def __call__(self, ranges: Sequence[tuple[int, int]]) -> list[_Block]:
        with self.path.open("rb") as file:
            return [self._read(file.seek(start), file.read(stop - start)) for start, stop in ranges]

    def _read(self, start: int, data: bytes) -> _Block:
        if start == 0:
            data = data.removeprefix(_BOM)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            return _Block(
                data.count(b"\n", 0, error.start), [], Counter(), f"{error.reason} {data[error.start : error.end]!r}"
            )
        # only \n ends a line: str.splitlines would also split at U+2028 and the like, and the numbers would be wrong
        return _check(self.language, text.removesuffix("\n").split("\n"))


def _check(language: Language, texts: Iterable[str]) -> _Block:
    lines, accepted, rejected = 0, [], Counter[str]()
    for text in texts:
        lines += 1
        checked = language.check(text)
        if checked.reason:
            rejected[checked.reason] += 1
        else:
            accepted.append(checked.text)
    return _Block(lines, accepted, rejected)
