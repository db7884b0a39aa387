"""Where results lie, and the record that makes a result whole.

`RUNS/store/<kind>-<12 hex>/`          a finished stage, `stage.json` written last
`RUNS/store/<kind>-<12 hex>.partial/`  one being made, or left by a kill
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.files import read_json, write_json

RECORD = "stage.json"


@dataclass(frozen=True, slots=True)
class Source:
    """Where one input came from."""

    stage: str  # name in the recipe; '' for an outside path
    output: str
    folder: str  # folder name in the store; '' for an outside path
    path: str  # the path as the recipe has it; '' for an edge


@dataclass(frozen=True, slots=True)
class Record:
    """The content of stage.json."""

    name: str  # in the recipe that made it
    kind: str
    version: int
    fingerprint: str
    ingredients: Mapping[str, Any]  # what the fingerprint is a hash of, so that a change can be named
    params: Mapping[str, Any]
    inputs: Mapping[str, tuple[Source, ...]]
    summary: Mapping[str, Any]
    seconds: float
    finished: str  # UTC, ISO 8601
    environment: Mapping[str, Any]  # versions, commit, machine: recorded, not part of the fingerprint
    outputs: tuple[str, ...] = ()  # files and folders of the kind's `writes` that were there; older records have none


def folder_name(kind: str, fingerprint: str) -> str:
    """Name of a stage's folder in the store."""
    return f"{kind}-{fingerprint[:12]}"


def partial(folder: Path) -> Path:
    """Where the stage is while being made."""
    return folder.with_name(folder.name + ".partial")


def is_done(folder: Path) -> bool:
    """Whether the folder holds a finished stage."""
    return (folder / RECORD).is_file()


def write_record(folder: Path, record: Record) -> None:
    """Write stage.json."""
    write_json(folder / RECORD, asdict(record))


def read_record(folder: Path) -> Record:
    """Read a finished stage's stage.json."""
    path = folder / RECORD
    if not path.is_file():
        raise UserError(str(folder), "not a finished stage (no stage.json)", "run the recipe that makes it")
    try:
        data = read_json(path)
        data["inputs"] = {key: tuple(Source(**s) for s in sources) for key, sources in data["inputs"].items()}
        data["outputs"] = tuple(data.get("outputs", ()))
        return Record(**data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            str(path), f"not a stage record: {error}", "remove the folder and run the recipe again"
        ) from error


def finished(folder: Path, kind: str) -> Record | None:
    """The record of a finished stage of that kind, if the folder is one's."""
    record = read_record(folder) if (folder / RECORD).is_file() else None
    return record if record is not None and record.kind == kind else None


def gone(folder: Path, record: Record) -> list[str]:
    """Outputs of a finished stage that were removed since; their contents are not looked at."""
    return [name for name in record.outputs if not (folder / name).exists()]


def forget_dependents(folder: Path) -> None:
    """Make every stored result that rests on `folder` unfinished, as that is about to be made anew (`--force`)."""
    for record_path in folder.parent.glob(f"*/{RECORD}"):
        if record_path.is_file() and any(folder.name == source.name for source in _sources(record_path.parent)):
            forget_dependents(record_path.parent)
            record_path.unlink(missing_ok=True)


def _sources(folder: Path, record: Record | None = None) -> list[Path]:
    """The folders that a finished stage was made from."""
    inputs = (record or read_record(folder)).inputs
    return [folder.parent / source.folder for sources in inputs.values() for source in sources if source.folder]


def ancestors(folder: Path) -> Iterator[tuple[Path, Record]]:
    """The stage in `folder` and every stage it was made from, each once, nearest first."""
    seen: set[Path] = set()
    queue = [folder.resolve()]
    while queue:
        current = queue.pop(0)
        if current in seen or not is_done(current):
            continue
        seen.add(current)
        record = read_record(current)
        yield current, record
        queue += _sources(current, record)
