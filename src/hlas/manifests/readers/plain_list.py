"""A plain list: lines that name an audio file and its transcript, as TSV, CSV, JSON or JSON lines.

The way to use a corpus that no other reader knows. Columns are found by their usual names, see COLUMNS. A file is the
table 'train'; a folder may hold train, dev and test. Relative audio paths start from the list's folder; others are
allowed, as a list often lies apart from its audio.
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from hlas.errors import UserError
from hlas.manifests.corpus import MOST_SECONDS
from hlas.manifests.readers.reading import (
    Entry,
    Line,
    ReadCorpus,
    audio_file,
    audio_files,
    bad_entry,
    frame_of,
    lines,
    table_files,
    with_all_columns,
)
from hlas.manifests.readers.tables import Column, first_line, read_tsv

SUFFIXES = (".tsv", ".csv", ".json", ".jsonl", ".ndjson")
Columns = tuple[tuple[str, str], ...]
COLUMNS: Columns = (  # what a row holds, and names of its column: the first one there counts, in capitals or not
    ("file", "path file audio audio_path audio_file audio_filepath file_name filename wav_filename wav clip"),
    ("sentence", "sentence text transcript transcription raw_text normalized_text"),
    ("speaker", "speaker speaker_id client_id spk spk_id"),
    ("gender", "gender sex"),
    ("age", "age"),
    ("accents", "accents accent"),
    ("variant", "variant"),
    ("locale", "locale language lang"),
    ("sentence_id", "sentence_id"),
    ("domain", "domain sentence_domain"),
    ("duration_s", "duration duration_s"),
    ("duration_ms", "duration_ms duration[ms]"),
    ("offset_s", "offset offset_s"),
)
_TEXT = ("file", "sentence", "raw_sentence")  # raw_sentence, where a reader has it: comes before `sentence`
_NUMBERS = ("duration_s", "duration_ms", "offset_s")
_NO_NUMBER = f"not a number of at least 0 and at most {MOST_SECONDS:.0f}"


def open_corpus(path: Path, scratch: Path) -> ReadCorpus:
    """Open a list, or a folder with lists named train, dev, test; nothing is unpacked into `scratch`."""
    files = table_files(path, SUFFIXES, "list")
    return ReadCorpus(str(path), path if path.is_dir() else path.parent, files, read_list)


def read_list(path: Path) -> pl.DataFrame:
    """The rows of a list, bad ones included; UserError for a file that is no list of its kind."""
    match path.suffix:
        case ".tsv":
            return _tsv(path)
        case ".csv":
            return frame_of(_csv(path))
        case ".json":
            return frame_of(_json(path))
    return frame_of(json_lines(path, COLUMNS))


def entry(line: int, values: Mapping[str, Any], folder: Path) -> Entry:
    """A row from its values by field name (see COLUMNS); values may be strings, numbers or None."""
    clip, sentence = values["file"], values.get("raw_sentence") or values["sentence"]
    if not isinstance(clip, str):
        return bad_entry(line, "the audio path is no string")
    if not isinstance(sentence, str):
        return bad_entry(line, "the transcript is no string", clip)
    fields: dict[str, Any] = {}
    for name, value in values.items():
        if name in _TEXT or value is None or value == "":
            continue
        if name in _NUMBERS:
            fields[name] = _number(value)
            if fields[name] is None:
                return bad_entry(line, f"{name} is {value!r}, {_NO_NUMBER}", clip)
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            fields[name] = str(value)
        else:
            return bad_entry(line, f"{name} is {value!r}, not a string", clip)
    milliseconds = fields.pop("duration_ms", None)
    if milliseconds is not None:
        fields.setdefault("duration_s", milliseconds / 1000)
    return Entry(line, clip or f"line {line}", audio_file(clip, folder, outside=True), sentence, **fields)


def _number(value: Any) -> float | None:
    try:
        number = math.nan if isinstance(value, bool) or "_" in str(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number <= MOST_SECONDS else None


@lru_cache(maxsize=64)  # the lines of a JSON file mostly have the same keys
def fields_of(names: tuple[str, ...], columns: Columns) -> Mapping[str, str]:
    """Field -> the name among `names` that holds it."""
    by_lower = {name.strip().lower(): name for name in reversed(names)}
    found = {field: next((by_lower[c] for c in choices.split() if c in by_lower), None) for field, choices in columns}
    return MappingProxyType({field: name for field, name in found.items() if name is not None})


def missing_columns(fields: Mapping[str, str], names: Sequence[str]) -> str:
    """What a row needs and `fields` lacks, '' if nothing."""
    needed = {"file": "the audio path", "sentence": "the transcript"}
    missing = " and for ".join(what for field, what in needed.items() if field not in fields)
    found = ", ".join(repr(name[:40]) for name in names[:20]) or "none"
    return f"no column for {missing}; there are: {found}" if missing else ""


def _header_fields(path: Path, header: str, names: Sequence[str], delimiter: str) -> Mapping[str, str]:
    fields = fields_of(tuple(names), COLUMNS)
    if twice := [name for name in fields.values() if names.count(name) > 1]:
        raise UserError(str(path), f"the column {twice[0]} stands twice", "leave one of them there")
    if problem := missing_columns(fields, names if header else ()):
        raise UserError(str(path), problem, f"name the columns in the first line, e.g. path{delimiter}sentence")
    return fields


def _tsv(path: Path) -> pl.DataFrame:
    """Rows of a tab-separated file, in which nothing is quoted."""
    header = first_line(path)
    fields = _header_fields(path, header, [name.strip() for name in header.split("\t")], "<TAB>")
    frame = read_tsv(path, {field: Column((name,)) for field, name in fields.items()})
    frame = _with_numbers(frame, [name for name in _NUMBERS if name in fields])
    clip = pl.when(pl.col("file") == "").then(pl.format("line {}", "line")).otherwise("file")
    frame = frame.with_columns(clip=clip, file=audio_files(frame["file"], path.parent, outside=True))
    return with_all_columns(frame)


def _with_numbers(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The named columns as numbers, null where the cell is empty; a row with another cell is bad."""
    for name in names:
        given = pl.col(name).str.strip_chars()
        number = given.cast(pl.Float64, strict=False)
        fits = number.is_between(0, MOST_SECONDS).fill_null(False)
        wrong = (pl.col("bad") == "") & (given != "") & ~fits
        problem = pl.format(f"{{}} is '{{}}', {_NO_NUMBER}", pl.lit(name), given)
        frame = frame.with_columns(
            pl.when(fits).then(number).alias(name), bad=pl.when(wrong).then(problem).otherwise("bad")
        )
    if "duration_ms" in names:
        seconds = pl.col("duration_ms") / 1000
        frame = frame.with_columns(duration_s=pl.coalesce("duration_s", seconds) if "duration_s" in names else seconds)
    return frame


def _csv(path: Path) -> Iterator[Entry]:
    """Rows of a CSV file. A row is a line: a quoted cell that goes on in the next line makes a bad row of both.

    So a lone quote costs its own row and never swallows others.
    """
    rest = lines(path)
    header = next(rest, Line(1, ""))
    # spreadsheets write what their locale has: the first of these that the header holds
    delimiter = next((d for d in ",;\t" if d in header.text), ",")
    names, problem = _cells(header.text, delimiter) if not header.bad and header.text else ([], header.bad)
    if problem:
        raise UserError(f"{path}:{header.number}", problem, "save the list as UTF-8, names of the columns first")
    fields = _header_fields(path, header.text, names, delimiter)
    places = {field: names.index(name) for field, name in fields.items()}
    for line in rest:
        cells, bad = ([], line.bad) if line.bad else _cells(line.text, delimiter)
        if not bad and len(cells) != len(names):
            bad = f"{len(cells)} columns, the header has {len(names)}"
        if bad:
            yield bad_entry(line.number, bad)
        else:
            yield entry(line.number, {field: cells[place] for field, place in places.items()}, path.parent)


def _cells(text: str, delimiter: str) -> tuple[list[str], str]:
    """Cells of a line of CSV, and why it has none."""
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True)), ""
    except csv.Error as error:
        return [], f"not a line of CSV: {error}"


class _Object(tuple[tuple[str, Any], ...]):
    """A JSON object as its pairs: unlike a dict it keeps a key that stands twice."""


def _loads(text: str | bytes) -> Any:
    return json.loads(text, object_pairs_hook=_Object)


def json_lines(path: Path, columns: Columns) -> Iterator[Entry]:
    """Rows of a file with one JSON object a line."""
    for line in lines(path):
        if line.bad:
            yield bad_entry(line.number, line.bad)
            continue
        try:
            data = _loads(line.text)
        except (ValueError, RecursionError) as error:
            yield bad_entry(line.number, f"not a JSON object: {error}")
            continue
        yield _object_entry(line.number, data, columns, path.parent)


def _json(path: Path) -> Iterator[Entry]:
    """Rows of a JSON file: a list of objects, or one object of path -> sentence; `line` counts them from 1."""
    try:
        data = _loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        fix = (
            "one JSON object a line is a .jsonl file" if "Extra data" in str(error) else "mend it, or save it as UTF-8"
        )
        raise UserError(str(path), f"not JSON: {error}", fix) from error
    if isinstance(data, _Object):
        for number, (clip, sentence) in enumerate(data, 1):
            yield checked_entry(number, {"file": clip, "sentence": sentence}, path.parent)
    elif isinstance(data, list):
        for number, item in enumerate(data, 1):
            yield _object_entry(number, item, COLUMNS, path.parent)
    else:
        raise UserError(
            str(path),
            f"holds {type(data).__name__}, not rows",
            'give {"path": "sentence", …}, or a list [{"path": …, "sentence": …}, …]',
        )


def _object_entry(number: int, data: Any, columns: Columns, folder: Path) -> Entry:
    if not isinstance(data, _Object):
        return bad_entry(number, "not a JSON object")
    names = tuple(name for name, _ in data)
    values = dict(data)
    if len(values) < len(names):
        return bad_entry(number, f"a key stands twice: {next(n for n in names if names.count(n) > 1)!r}")
    fields = fields_of(names, columns)
    if problem := missing_columns(fields, names):
        return bad_entry(number, problem)
    return checked_entry(number, {field: values[name] for field, name in fields.items()}, folder)


def checked_entry(number: int, values: Mapping[str, Any], folder: Path) -> Entry:
    """As `entry`; JSON can escape half a surrogate pair, which is no character and fits no UTF-8 file."""
    try:
        "".join(value for value in values.values() if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        return bad_entry(number, "holds half a surrogate pair")
    return entry(number, values, folder)
