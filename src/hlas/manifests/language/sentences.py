"""The raw sentences of a file of any size, in blocks that worker processes read by themselves.

A plain text has one a line; a Common Voice table (.tsv) has them in its column `sentence`, a manifest (.jsonl) in
`raw_text`, or else in `text`. This serves to look at text (`hlas language`); what becomes a manifest is read by the
readers of corpora.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hlas.errors import UserError
from hlas.line_blocks import line_ranges

BLOCK_BYTES = 4 << 20
_BOM = b"\xef\xbb\xbf"
Unreadable = Literal["bad_row", "not_utf8"]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that holds no sentence."""

    reason: Unreadable
    text: str  # the line, as far as it can be shown


@dataclass(frozen=True, slots=True)
class SentenceFile:
    """A file with sentences."""

    path: Path
    kind: Literal["text", "tsv", "jsonl"]
    column: int = 0  # of a table: where its sentences are
    columns: int = 0  # and how many cells a row has

    def blocks(self) -> list[tuple[int, int]]:
        """Byte ranges of whole lines that cover the file."""
        return list(line_ranges(self.path, BLOCK_BYTES))

    def read(self, start: int, stop: int) -> Iterator[str | BadLine]:
        """The sentences of a block; blank lines of tables and manifests are no rows."""
        with self.path.open("rb") as file:
            file.seek(start)
            lines = file.read(stop - start).removesuffix(b"\n").split(b"\n")
        if start == 0:
            lines[0] = lines[0].removeprefix(_BOM)
            lines = lines[1:] if self.kind == "tsv" else lines  # its header
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line or self.kind == "text":
                yield self._sentence(line)

    def _sentence(self, line: bytes) -> str | BadLine:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            return BadLine("not_utf8", line.decode("utf-8", errors="replace"))
        if self.kind == "text":
            return text
        if self.kind == "tsv":
            cells = text.split("\t")
            return cells[self.column] if len(cells) == self.columns else BadLine("bad_row", text)
        try:
            row = json.loads(text)
            sentence = row.get("raw_text") or row["text"]
        except (ValueError, AttributeError, KeyError, RecursionError):
            return BadLine("bad_row", text)
        return sentence if isinstance(sentence, str) else BadLine("bad_row", text)


def open_sentences(path: Path) -> SentenceFile:
    """Look at the file's name and header; UserError where it cannot hold sentences."""
    if not path.is_file():
        raise UserError(str(path), "no such file", "give a text file, a Common Voice .tsv or a .jsonl manifest")
    if path.suffix == ".jsonl":
        return SentenceFile(path, "jsonl")
    if path.suffix != ".tsv":
        return SentenceFile(path, "text")
    with path.open("rb") as file:
        header = file.readline(1 << 20).removeprefix(_BOM).rstrip(b"\r\n").decode("utf-8", errors="replace").split("\t")
    if "sentence" not in header:
        problem = f"no column sentence; the columns are: {', '.join(filter(None, header)) or 'none'}"
        raise UserError(str(path), problem, "give a table of Common Voice, or name a plain text .txt")
    return SentenceFile(path, "tsv", header.index("sentence"), len(header))
