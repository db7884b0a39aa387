"""Results that no recipe's folder leads to any more: found, measured, and removed where that is asked for."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hlas import store


@dataclass(frozen=True, slots=True)
class Old:
    """A folder of the store that nothing leads to."""

    folder: Path
    size_bytes: int
    interrupted: bool  # half made: the same recipe, run again, may go on from it


def find_old(runs: Path) -> list[Old]:
    """Stored results that no RUNS/<recipe>/<stage> link needs, not even through another result, the largest first."""
    kept = {folder for link in _links(runs) for folder, _ in store.ancestors(link)}
    folders = [path for path in (runs / "store").glob("*") if path.is_dir() and path.resolve() not in kept]
    old = [Old(path, _size(path), not store.is_done(path)) for path in folders]
    return sorted(old, key=lambda item: (-item.size_bytes, item.folder.name))


def remove(old: Old) -> bool:
    """Remove one; False if another process is making it right now."""
    lock = old.folder.with_name(old.folder.name.removesuffix(".partial") + ".lock")
    with _free(lock) as free:
        if free:
            shutil.rmtree(old.folder)
            lock.unlink(missing_ok=True)
    return free


def _links(runs: Path) -> Iterator[Path]:
    home = (runs / "store").resolve()
    for recipe in runs.glob("*"):
        if recipe.is_dir() and recipe.resolve() != home:
            yield from (path for path in recipe.iterdir() if path.is_symlink() and path.resolve().parent == home)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@contextmanager
def _free(lock: Path) -> Iterator[bool]:
    """Hold the runner's lock of a stage, if nobody else does."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
