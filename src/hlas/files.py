"""Files written whole or not at all, and hashes of files."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIO]:
    """Open a text file (UTF-8, LF) that takes the name `path` only if the block ends without an error."""
    with _named_when_done(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        yield file


@contextmanager
def atomic_bytes(path: Path) -> Iterator[BinaryIO]:
    """The same for bytes, which are on the disk before the file has its name: a power cut leaves no half of it."""
    with _named_when_done(path) as part, part.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _named_when_done(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path, whole: Callable[[Path], bool]) -> Iterator[Path]:
    """A fresh folder to fill, which takes the name `target` only if the block ends without an error.

    `whole` says whether a folder is what it should be: one that another process has finished meanwhile is left, and a
    broken one is replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        yield partial
        partial.chmod(0o755)  # mkdtemp's folder is the owner's alone
        if not whole(target):
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
    except OSError:
        if not whole(target):  # else another process was faster
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, data: Any) -> None:
    """Write `data` as indented JSON, keys in their own order; NaN and infinity are errors."""
    with atomic_text(path) as file:
        json.dump(data, file, ensure_ascii=False, indent=1, allow_nan=False)
        file.write("\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json_lines(path: Path, rows: Iterable[Any]) -> int:
    """Write one JSON value a line; returns the number of lines."""
    count = 0
    with atomic_text(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(data: Any) -> str:
    """Hexadecimal SHA-256 of a value in canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
