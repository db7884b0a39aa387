"""Manifest rows as columns: 10^6 rows are written in seconds, in the very bytes of `Row.to_json`."""

import json
import math
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import polars as pl

from hlas.files import atomic_text
from hlas.manifests.rows import Row

_SLICE = 50_000  # rows that are text at a time
_NUMBERS: dict[str, pl.DataType] = {
    "duration": pl.Float64(),
    "up_votes": pl.Int32(),
    "down_votes": pl.Int32(),
    "snr_db": pl.Float64(),
    "offset": pl.Float64(),
}
SCHEMA: dict[str, pl.DataType] = {f.name: _NUMBERS.get(f.name, pl.String()) for f in fields(Row)}
_ALWAYS = ("audio_filepath", "text", "raw_text")  # written even where they are empty
_ESCAPES = {chr(code): json.dumps(chr(code))[1:-1] for code in (*range(0x20), ord('"'), ord("\\"))}
_NEEDS_ESCAPE = "[" + "".join(f"\\x{ord(char):02x}" for char in _ESCAPES) + "]"


def rows_frame(rows: Iterable[Row]) -> pl.DataFrame:
    """Rows as a frame with the columns of SCHEMA."""
    rows = list(rows)
    return pl.DataFrame({name: [getattr(row, name) for row in rows] for name in SCHEMA}, SCHEMA)


def write_manifest(path: Path, frame: pl.DataFrame) -> None:
    """Write a frame with the columns of SCHEMA as NeMo JSON lines, whole or not at all."""
    with atomic_text(path) as file:
        for part in frame.iter_slices(_SLICE):
            file.writelines(f"{line}\n" for line in _lines(part))


def _lines(frame: pl.DataFrame) -> pl.Series:
    """JSON of each row, as `json.dumps(row.to_json(), ensure_ascii=False)` gives it."""
    pieces = []
    for name in SCHEMA:
        there = frame[name].is_not_null() if name in _NUMBERS else frame[name] != ""
        if name not in _ALWAYS and not there.any():
            continue
        value = _number(frame[name]) if name in _NUMBERS else _string(frame[name])
        piece = f', "{name}": ' + value
        if name not in _ALWAYS and not there.all():
            piece = piece.zip_with(there, pl.Series([""]))
        pieces.append(piece.alias(name))
    line = pl.concat_str(pieces)
    return frame.select(pl.lit("{") + line.str.slice(2) + pl.lit("}")).to_series()


def _string(values: pl.Series) -> pl.Series:
    if values.str.contains(_NEEDS_ESCAPE).any():
        values = values.str.replace_many(_ESCAPES)
    return '"' + values + '"'


def _number(values: pl.Series) -> pl.Series:
    """As Python writes numbers; what JSON has no form for is an error."""
    if values.dtype.is_integer():
        return values.cast(pl.String).fill_null("")
    if not all(map(math.isfinite, values.drop_nulls())):
        raise ValueError(f"{values.name} is not a finite number")
    return pl.Series(["" if value is None else repr(value) for value in values], dtype=pl.String)
