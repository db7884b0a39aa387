"""What the tests of several readers share: files, opened corpora, and their tables as plain lists."""

from pathlib import Path
from typing import Any

from hlas.manifests.corpus import Corpus, open_corpus, schema

Table = list[dict[str, Any]]


def save(path: Path, text: str | bytes) -> Path:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def opened(reader: str, path: Path) -> Corpus:
    """The corpus, by the reader of that name."""
    return open_corpus(reader, path, path.parent / "scratch")


def rows(reader: str, path: Path, table: str = "train") -> Table:
    """A table as dicts, once its columns have been checked."""
    frame = opened(reader, path).read(table)
    assert dict(frame.schema) == schema()
    return frame.to_dicts()


def column(table: Table, *names: str) -> list[Any]:
    """The values of a column, or tuples of several."""
    return [tuple(row[name] for name in names) if len(names) > 1 else row[names[0]] for row in table]


def bad(table: Table) -> dict[int, str]:
    """Why a line is no row, by its number."""
    return {row["line"]: row["bad"] for row in table if row["bad"]}
