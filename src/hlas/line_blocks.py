"""Text files of any size as blocks of whole lines that worker processes read by themselves, each line checked.

A reader needs memory for a few blocks, however long the file is. A compressed file is unpacked to disk first, as only
a plain one can be entered at any block.
"""

import gzip
import shutil
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hlas.errors import UserError
from hlas.manifests.text import Language
from hlas.parallel import map_chunks
from hlas.progress import track

BLOCK_BYTES = 4 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Block:
    """The sentences of a part of a text."""

    lines: int
    accepted: list[str]  # normalised
    rejected: Counter[str]  # reason -> lines
    undecodable: str = ""  # the decoder's message; `lines` is then the number of lines before the bad one


def read_blocks(path: Path, language: Language, label: str, scratch: Path, workers: int = 1) -> Iterator[Block]:
    """Normalise and check every line of a text file (UTF-8, plain or .gz); blocks come in the file's order.

    Raises UserError for a file that is missing, damaged or not UTF-8, with the line.
    """
    if not path.is_file():
        raise UserError(str(path), "no such text file", "check the path under 'text'")
    plain = _unpacked(path, scratch) if path.suffix == ".gz" else path
    ranges = list(line_ranges(plain, BLOCK_BYTES))
    checker = BlockChecker(plain, language)
    before = 0
    for block in track(map_chunks(checker, ranges, workers=workers, chunk_size=1), label, len(ranges), "blocks"):
        before += block.lines
        if block.undecodable:
            fix = "convert the file: iconv -f <its encoding> -t utf-8"
            raise UserError(f"{path}:{before + 1}", f"not UTF-8: {block.undecodable}", fix)
        yield block
    if plain != path:
        plain.unlink()


def _unpacked(path: Path, scratch: Path) -> Path:
    plain = scratch / path.stem
    try:
        with gzip.open(path) as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file, BLOCK_BYTES)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(str(path), f"not a whole .gz file: {error}", "fetch it again; test it with gzip -t") from error
    return plain


def line_ranges(path: Path, size: int) -> Iterator[tuple[int, int]]:
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
class BlockChecker:
    """Reads and checks byte ranges of a file, in whichever process."""

    path: Path
    language: Language

    def __call__(self, ranges: Sequence[tuple[int, int]]) -> list[Block]:
        """A block for each (start, stop)."""
        with self.path.open("rb") as file:
            return [self._read(file.seek(start), file.read(stop - start)) for start, stop in ranges]

    def _read(self, start: int, data: bytes) -> Block:
        if start == 0:
            data = data.removeprefix(_BOM)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            said = f"{error.reason} {data[error.start : error.end]!r}"
            return Block(data.count(b"\n", 0, error.start), [], Counter(), said)
        # only \n ends a line: str.splitlines would also split at U+2028 and the like, and the numbers would be wrong
        return check_lines(self.language, text.removesuffix("\n").split("\n"))


def check_lines(language: Language, texts: Iterable[str]) -> Block:
    """Normalise texts and count by reason those that the language's alphabet does not hold."""
    lines, accepted, rejected = 0, [], Counter[str]()
    for text in texts:
        lines += 1
        checked = language.check(text)
        if checked.reason:
            rejected[checked.reason] += 1
        else:
            accepted.append(checked.text)
    return Block(lines, accepted, rejected)
