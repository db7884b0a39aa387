"""Tab-separated tables as Common Voice writes them: unquoted UTF-8, a line is a row, and no line is lost.

A lone `"` is a character, only LF (or CR LF) ends a line, and blank lines are no rows. A line that is no row is kept
in its place with the reason why. Readers of corpora (`common_voice`, `spontaneous_speech`) stand on this.
"""

import codecs
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from hlas.errors import UserError

MAX_LINE_BYTES = 1 << 20  # a row of Common Voice has some 400
_BLOCK_BYTES = 8 << 20  # read at a time: memory for what is not yet columns


class Column(NamedTuple):
    """A column that is wanted."""

    names: tuple[str, ...]  # what the header may call it, the newest first
    needed: bool = False  # without it the table is of no use


def read_tsv(path: Path, columns: Mapping[str, Column], header: Sequence[str] = ()) -> pl.DataFrame:
    """Columns of a table found by name, as text, '' where the table has none.

    The frame has `line` (UInt32, from 1), the keys of `columns` and `bad` (why the line is no row, '' = it is one).
    `header` names the columns of a table that has no header line.

    Raises:
        UserError: the file cannot be read, it has no header that is UTF-8, or a needed column is missing.

    """
    parts: list[pl.DataFrame] = []
    layout = _layout(path, header, columns) if header else None
    for first, lines in _blocks(path):
        if layout is None:
            found = next(((i, line) for i, line in enumerate(lines) if line is None or line.rstrip(b"\r")), None)
            if found is None:
                continue
            layout = _layout(path, _header(path, first + found[0], found[1]), columns)
            first, lines = first + found[0] + 1, lines[found[0] + 1 :]
        parts.append(_rows(first, lines, layout))
    if layout is None:
        layout = _layout(path, (), columns)
    return pl.concat(parts, rechunk=False) if parts else _rows(1, [], layout)


def first_line(path: Path) -> str:
    """The first line of a table that is not blank, without its end; '' where there is none."""
    for _, lines in _blocks(path):
        for line in lines:
            if line is None or line.rstrip(b"\r"):
                return (line or b"").rstrip(b"\r").decode(errors="replace")
    return ""


def look_up(rows: pl.DataFrame, table: pl.DataFrame, key: str) -> pl.DataFrame:
    """The rows with the other columns of `table`, which has each key once; null where it lacks the key.

    A join that moves no column but the key: the rows may be a million.
    """
    found = rows.select(key).join(table, on=key, how="left", maintain_order="left")
    return rows.with_columns(found.drop(key).get_columns())


class _Layout(NamedTuple):
    """Where the wanted columns stand."""

    width: int
    places: dict[str, int | None]  # wanted column -> its place; None = the table has none


def _header(path: Path, number: int, line: bytes | None) -> list[str]:
    if line is None:
        raise UserError(f"{path}:{number}", f"longer than {MAX_LINE_BYTES} bytes", "give a table with a header")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{number}", f"not UTF-8: {error}", "save the table as UTF-8") from error
    return [name.strip() for name in text.rstrip("\r").split("\t")]


def _layout(path: Path, header: Sequence[str], columns: Mapping[str, Column]) -> _Layout:
    wanted = {name for column in columns.values() for name in column.names}
    if twice := [name for name in header if name in wanted and header.count(name) > 1]:
        raise UserError(str(path), f"the column {twice[0]} stands twice", "leave one of them there")
    places = {key: next((header.index(n) for n in c.names if n in header), None) for key, c in columns.items()}
    if missing := [columns[key].names[0] for key, place in places.items() if place is None and columns[key].needed]:
        raise UserError(
            str(path),
            f"no column {', '.join(missing)}; the columns are: {', '.join(filter(None, header)) or 'none'}",
            "give a table of Common Voice, tabs between its columns",
        )
    return _Layout(len(header), places)


def _blocks(path: Path) -> Iterator[tuple[int, list[bytes | None]]]:
    """Consecutive lines with the number of the first; None stands for a line that is too long to be kept."""
    number, rest, cut = 1, b"", False
    try:
        with path.open("rb") as file:
            while data := file.read(_BLOCK_BYTES):
                if number == 1 and not rest:
                    data = data.removeprefix(codecs.BOM_UTF8)
                lines: list[bytes | None] = [*(rest + data).split(b"\n")]
                rest = lines.pop() or b""
                if lines and cut:
                    lines[0], cut = None, False
                if cut or len(rest) > MAX_LINE_BYTES:
                    rest, cut = b"", True
                yield number, lines
                number += len(lines)
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror or error}", "check the file") from error
    if rest or cut:
        yield number, [None if cut else rest]


def _rows(first: int, lines: Sequence[bytes | None], layout: _Layout) -> pl.DataFrame:
    """Lines as columns, in order, with those that are no rows in their places."""
    good: list[bytes] = []
    numbers: list[int] = []
    bad: list[tuple[int, str]] = []
    tabs = layout.width - 1
    for number, raw in enumerate(lines, first):
        if raw is None or len(raw) > MAX_LINE_BYTES:
            bad.append((number, f"longer than {MAX_LINE_BYTES} bytes"))
            continue
        line = raw.rstrip(b"\r")
        if not line:
            continue
        if (found := line.count(b"\t")) != tabs:
            bad.append((number, f"{found + 1} columns, the header has {layout.width}"))
            continue
        good.append(line)
        numbers.append(number)
    if not _is_clean(b"\n".join(good)):
        bad += [(n, problem) for n, line in zip(numbers, good, strict=True) if (problem := _damage(line))]
        clean = [(n, line) for n, line in zip(numbers, good, strict=True) if not _damage(line)]
        numbers, good = [n for n, _ in clean], [line for _, line in clean]
    rows = _parse(good, layout).insert_column(0, pl.Series("line", numbers, pl.UInt32))
    rows = rows.with_columns(bad=pl.lit(""))
    if not bad:
        return rows
    others = pl.DataFrame(bad, {"line": pl.UInt32, "bad": pl.String}, orient="row")
    others = others.with_columns(pl.lit("").alias(name) for name in layout.places).select(rows.columns)
    return pl.concat([rows, others]).sort("line")


def _parse(lines: Sequence[bytes], layout: _Layout) -> pl.DataFrame:
    there = sorted({place for place in layout.places.values() if place is not None})
    if lines:
        cells = pl.read_csv(
            io.BytesIO(b"\n".join(lines)),
            has_header=False,
            schema={str(place): pl.String() for place in range(layout.width)},
            columns=there,
            separator="\t",
            quote_char=None,
            empty_string_is_null=False,
        )
        if cells.height != len(lines):  # a line is a row: anything else would shift every number
            raise AssertionError(f"{len(lines)} lines became {cells.height} rows")
    else:
        cells = pl.DataFrame(schema={str(place): pl.String() for place in there})
    return cells.select(
        (pl.lit("", pl.String) if place is None else pl.col(str(place))).alias(key)
        for key, place in layout.places.items()
    )


def _is_clean(data: bytes) -> bool:
    if b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _damage(line: bytes) -> str:
    """Why a line of the right width is no row, '' if it is one."""
    if b"\0" in line:
        return "holds a NUL byte"
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: {error.reason} at byte {error.start + 1}"
    return ""
