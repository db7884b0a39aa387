"""What the readers of lists and manifests share: lines, file names, rows, and the corpus that is made of them.

A reader gives an `Entry` for every line, good or bad; `ReadCorpus` makes tables of them in the form of `corpus.schema`.
"""

import gzip
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

import polars as pl

from hlas.errors import UserError
from hlas.manifests.corpus import schema
from hlas.manifests.readers.tables import MAX_LINE_BYTES
from hlas.manifests.readers.utterance_names import MAX_NAME_BYTES, stem, utterance_names

TABLE_NAMES = {  # word in a file's name -> table
    "train": "train",
    "training": "train",
    "dev": "dev",
    "valid": "dev",
    "validation": "dev",
    "val": "dev",
    "test": "test",
    "validated": "validated",
}
_BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line of a text file."""

    number: int  # from 1
    text: str  # without its end
    bad: str = ""  # why it cannot be read


class Entry(NamedTuple):
    """One row of a reader; the columns of `corpus.schema` that such corpora can have."""

    line: int
    clip: str
    file: str = ""
    sentence: str = ""
    speaker: str = ""
    gender: str = ""
    age: str = ""
    accents: str = ""
    variant: str = ""
    locale: str = ""
    sentence_id: str = ""
    domain: str = ""
    duration_s: float | None = None
    offset_s: float | None = None
    bad: str = ""


def bad_entry(line: int, why: str, clip: str = "") -> Entry:
    """A line that is no row."""
    return Entry(line, clip or f"line {line}", bad=why)


def frame_of(entries: Iterable[Entry]) -> pl.DataFrame:
    """Entries as columns."""
    rows = list(entries)
    columns = zip(*rows, strict=True) if rows else ((),) * len(Entry._fields)
    kinds = schema()
    return with_all_columns(
        pl.DataFrame([pl.Series(n, v, kinds[n]) for n, v in zip(Entry._fields, columns, strict=True)])
    )


def with_all_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the columns of `corpus.schema` in their order; those it lacks are '' or null."""
    missing = {name: kind for name, kind in schema().items() if name not in frame.columns}
    empty = {name: pl.lit("" if kind == pl.String else None, kind) for name, kind in missing.items()}
    return frame.with_columns(**empty).select(*schema())


@dataclass(frozen=True)
class ReadCorpus:
    """A corpus whose tables are parsed by a function; it keeps what it has read."""

    label: str
    audio: Path
    sources: Mapping[str, Path]  # table -> the file or folder that `parse` takes
    parse: Callable[[Path], pl.DataFrame]  # all columns, but for the names of utterances
    stems_are_names: bool = False  # the corpus' own layout gives each file a name that no other has

    @property
    def tables(self) -> Collection[str]:
        """Names of the tables."""
        return self.sources

    def read(self, table: str) -> pl.DataFrame:
        """All rows of a table."""
        if self.stems_are_names:
            return self.parse(self.sources[table]).with_columns(utterance=stem(pl.col("file")))
        return self._named[table]

    def fetch(self, files: Collection[str]) -> None:
        """Nothing to do: the files lie where the corpus says."""

    @cached_property
    def _named(self) -> dict[str, pl.DataFrame]:
        """All tables at once: a name depends on what else there is, and one recording in two tables has one name."""
        place = pl.concat_str("offset_s", pl.col("duration_s").fill_null(0.0), separator="+").fill_null("")
        part = pl.concat_str("file", place, separator="\t")  # the audio of an utterance: a file, or a part of one
        frames = {table: self.parse(source).with_columns(part=part) for table, source in self.sources.items()}
        names = utterance_names(pl.concat(frame.select("part", "file", "offset_s") for frame in frames.values()))
        return {
            table: frame.drop("utterance").join(names, on="part", how="left", maintain_order="left").select(*schema())
            for table, frame in frames.items()
        }


def lines(path: Path) -> Iterator[Line]:
    """Every line of a UTF-8 file that is not blank; only LF or CR LF ends one. A .gz file is unpacked on the way."""
    try:
        with path.open("rb") as file:
            yield from _lines(gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(str(path), f"not a whole gzip file: {error}", "copy or download it again") from error


def _lines(file: BinaryIO | gzip.GzipFile) -> Iterator[Line]:
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_LINE_BYTES)
            yield Line(number, "", f"longer than {MAX_LINE_BYTES} bytes")
            continue
        if number == 1:
            raw = raw.removeprefix(_BOM)
        try:
            text = raw.decode().removesuffix("\n").rstrip("\r")
        except UnicodeDecodeError as error:
            yield Line(number, "", f"not UTF-8: {error.reason} at byte {error.start + 1}")
            continue
        if text:
            yield Line(number, text, "holds a NUL byte" if "\0" in text else "")


def audio_file(path: str, folder: Path, *, outside: bool) -> str:
    """The file that a corpus names by `path`: below `folder`, or absolute; '' if the name leads nowhere safe.

    `outside`: the format may name audio elsewhere, by an absolute path or with '..'.
    """
    if not path.isprintable() or "\\" in path:
        return ""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or parts[-1] == ".." or path.endswith("/") or max(len(p.encode()) for p in parts) > MAX_NAME_BYTES:
        return ""
    if path.startswith("/") or ".." in parts:
        return os.path.normpath(folder.absolute() / path) if outside else ""
    return "/".join(parts)


def audio_files(paths: pl.Series, folder: Path, *, outside: bool) -> pl.Series:
    """`audio_file` of many: plain names at once, the others one by one."""
    plain = paths.str.contains(r"^[\w \-]+(\.[\w \-]+)*(/[\w \-]+(\.[\w \-]+)*)*$") & (
        paths.str.len_bytes() <= MAX_NAME_BYTES
    )
    others = [
        p if is_plain else audio_file(p, folder, outside=outside) for p, is_plain in zip(paths, plain, strict=True)
    ]
    return pl.Series(others, dtype=pl.String)


def table_files(path: Path, suffixes: Sequence[str], what: str) -> dict[str, Path]:
    """The tables of a corpus given as one file ('train'), or as a folder with one file for each table.

    A file belongs to the table that a word of its name says: test.tsv, cuts_dev.jsonl.gz, train_manifest.json. A file
    named by the word alone comes before others.
    """
    known = ", ".join(suffixes)
    if path.is_file():
        if not path.name.endswith(tuple(suffixes)):
            raise UserError(str(path), f"not the name of a {what}", f"its name must end in one of: {known}")
        return {"train": path}
    if not path.is_dir():
        raise UserError(str(path), f"no such {what}", f"give a file ({known}), or a folder with train, dev, test")
    found: dict[str, list[Path]] = {}
    for file in sorted(path.iterdir()):
        if file.is_file() and file.name.endswith(tuple(suffixes)):
            words = re.split(r"[^a-z0-9]+", file.name.lower())
            for table in [TABLE_NAMES[word] for word in words if word in TABLE_NAMES][:1]:
                found.setdefault(table, []).append(file)
    if not found:
        raise UserError(
            str(path),
            f"no {what} with train, dev or test in its name",
            f"name them train, dev and test, ending in one of: {known}; or give one file",
        )
    out: dict[str, Path] = {}
    for table, files in found.items():
        best = [file for file in files if TABLE_NAMES.get(file.name.split(".")[0].lower()) == table] or files
        if len(best) > 1:
            listing = ", ".join(file.name for file in best)
            raise UserError(str(path), f"several files for {table}: {listing}", "leave one of them there")
        out[table] = best[0]
    return out
