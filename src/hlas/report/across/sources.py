"""What a RUN on the command line leads to: stages of recipes, folders of reports, files that other tools wrote."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.manifests.rows import Hypothesis, Row, row_from_json
from hlas.report.systems import System, in_split_order, load_stage
from hlas.stages import MANIFEST_SPLITS
from hlas.store import Record, is_done, read_record

SYSTEM_KINDS = ("decode", "rescore", "transcribe")
UNKNOWN_SPLIT = ""  # of a file whose name does not say it
_NUMBERS = frozenset({"duration", "offset", "snr_db", "up_votes", "down_votes"})
_TEXTS = frozenset({f.name for f in fields(Row)} - _NUMBERS | {"pred_text", "raw_pred_text"})
_LARGEST = 1e9  # seconds: thirty years, more than any file lasts; NaN and infinity are not below it either


@dataclass(frozen=True, slots=True)
class Found:
    """One system that a RUN leads to, and how it may be called."""

    system: System  # its name is that within its run
    long_name: str  # with the run's name, for where two runs have a system of one name
    home: Path | None  # the folder of the recipe that made it, with recipe.resolved.yaml
    foreign: bool  # whether another tool may have written it: its texts go through the normaliser


def find_systems(runs: Sequence[str]) -> list[Found]:
    """The systems of every RUN, each '[NAME=]PATH', in the order given."""
    return [found for run in runs for found in _find(run)]


def _find(run: str) -> Iterator[Found]:
    name, path = _name_and_path(run)
    if path.is_file():
        yield _foreign_file(path, name)
    elif is_done(path):
        yield from _stage(path, name)
    elif stages := _stages_of_recipe(path):
        for system, folder in stages:
            found = load_stage(folder, system, f"stage {system} of {path.name}")
            yield Found(found, f"{name or path.name}/{system}", _recipe_home(path), foreign=False)
    elif files := sorted([*path.glob("hypotheses/*.jsonl"), *path.glob("*.jsonl")]):
        yield from _foreign_files(files, path, name)
    elif path.exists():
        raise UserError(
            str(path),
            "no stage, no recipe's results and no hypotheses (*.jsonl) here",
            "name runs/RECIPE, runs/RECIPE/STAGE, a report's folder, or a JSON lines file with pred_text",
        )
    else:
        raise UserError(str(path), "no such file or folder", "check the path; a name goes before it: NAME=PATH")


def _name_and_path(run: str) -> tuple[str, Path]:
    name, separator, path = run.partition("=")
    return ("", Path(run)) if not separator or Path(run).exists() else (name, Path(path))


def _recipe_home(folder: Path) -> Path | None:
    """The folder, if a recipe was run into it."""
    return folder if (folder / "recipe.resolved.yaml").is_file() else None


def _stage(path: Path, name: str) -> Iterator[Found]:
    """A finished stage: a system, or a report and so all systems that it is of."""
    record = read_record(path)
    home = _recipe_home(path.parent)
    run = home.name if home else ""
    if record.kind in SYSTEM_KINDS:
        system = load_stage(path.resolve(), name or record.name, f"stage {record.name}" + (f" of {run}" if run else ""))
        yield Found(system, name or "/".join(filter(None, (run, record.name))), home, foreign=False)
    elif record.kind == "report":
        stages = _stages_of_report(path, record)
        if all(is_done(folder) for _, folder in stages):
            for stage, folder in stages:
                found = load_stage(folder, stage, f"stage {stage} of {run or path.name}")
                yield Found(found, f"{name or run or path.name}/{stage}", home, foreign=False)
        else:  # the report was copied away from its store: it has copies of the hypotheses
            yield from _foreign_files(sorted(path.glob("hypotheses/*.jsonl")), path, name)
    else:
        kinds = ", ".join(SYSTEM_KINDS)
        raise UserError(str(path), f"a stage of kind {record.kind} has no hypotheses", f"name one of: {kinds}, report")


def _stages_of_report(path: Path, record: Record) -> list[tuple[str, Path]]:
    store = path.resolve().parent
    return [(source.stage, store / source.folder) for source in record.inputs.get("systems", ())]


def _stages_of_recipe(home: Path) -> list[tuple[str, Path]]:
    """The systems of the recipe's reports, or all that it has where it has no report."""
    if not home.is_dir():
        return []
    records = {child: read_record(child) for child in sorted(home.iterdir()) if child.is_dir() and is_done(child)}
    reported = [
        stage
        for child, record in records.items()
        if record.kind == "report"
        for stage in _stages_of_report(child, record)
    ]
    every = [(child.name, child.resolve()) for child, record in records.items() if record.kind in SYSTEM_KINDS]
    return list(dict.fromkeys(stage for stage in reported if is_done(stage[1]))) or every


def _foreign_file(path: Path, name: str) -> Found:
    system, split = _system_and_split(path)
    return _foreign(name or system, path.parent, {split: read_foreign(path)}, f"file {path.name}", "")


def _foreign_files(files: Sequence[Path], folder: Path, name: str) -> Iterator[Found]:
    """SYSTEM.SPLIT.jsonl each, as a report writes them; or SPLIT.jsonl of one system."""
    systems: dict[str, dict[str, tuple[Hypothesis, ...]]] = {}
    for path in files:
        system, split = _system_and_split(path)
        systems.setdefault(system, {})[split] = read_foreign(path)
    for system, splits in systems.items():
        own = name if name and len(systems) == 1 else system
        yield _foreign(own, files[0].parent, splits, f"{system} in {folder.name}", f"{name or folder.name}/{system}")


def _foreign(name: str, folder: Path, splits: dict[str, tuple[Hypothesis, ...]], source: str, long_name: str) -> Found:
    system = System(name, "other", folder.resolve(), None, (), in_split_order(splits), source)
    return Found(system, long_name or name, None, foreign=True)


def _system_and_split(path: Path) -> tuple[str, str]:
    """'whisper', 'test' of whisper.test.jsonl; the folder's name of test.jsonl; an unknown split of any other name."""
    stem = path.name.removesuffix(".jsonl").removesuffix(".json")
    if stem in MANIFEST_SPLITS:
        return path.resolve().parent.name, stem
    system, _, split = stem.rpartition(".")
    return (system, split) if system and split in MANIFEST_SPLITS else (stem, UNKNOWN_SPLIT)


def read_foreign(path: Path) -> tuple[Hypothesis, ...]:
    """Rows of NeMo's keys that any tool wrote: `audio_filepath`, `text`, `pred_text`; all others are optional.

    Raises UserError for a line that is not such a row, and for a file without any.
    """
    if path.suffix not in (".jsonl", ".json"):
        raise UserError(
            str(path), "not a JSON lines file", "one JSON object a line, with pred_text; plain text: hlas score"
        )
    rows = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(str(path), f"not UTF-8: {error}", "save it as UTF-8 text") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            rows.append(_foreign_row(f"{path}:{number}", line))
    if not rows:
        raise UserError(str(path), "no hypotheses in it", "one JSON object a line, with pred_text")
    return tuple(rows)


def _foreign_row(where: str, line: str) -> Hypothesis:
    needed = "a row needs audio_filepath, text (the reference) and pred_text (what was heard), each a text"
    try:
        data = json.loads(line)
    except ValueError as error:
        raise UserError(where, f"not a JSON object: {error}", "one JSON object a line") from error
    if not isinstance(data, dict):
        raise UserError(where, "not a JSON object", "one JSON object a line")
    if missing := [key for key in ("audio_filepath", "text", "pred_text") if not isinstance(data.get(key), str)]:
        raise UserError(where, f"no {missing[0]}; it has: {', '.join(data) or 'nothing'}", needed)
    data = {key: _checked(where, key, value) for key, value in data.items() if value is not None}
    row = row_from_json({"duration": 0.0} | data)
    raw = row.raw_text or row.text
    return Hypothesis(replace(row, raw_text=raw), data["pred_text"], data.get("raw_pred_text") or data["pred_text"])


def _checked(where: str, key: str, value: Any) -> Any:
    """The value, if it is of the kind that its key asks for; a number may stand for a name. Unknown keys pass."""
    if key in _NUMBERS:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST
        if not fits or (value < 0 and key in ("duration", "offset")):
            raise UserError(where, f"{key} is {value!r}", "make it a number of seconds or decibels, or leave it out")
    elif key in _TEXTS:
        text = str(value) if isinstance(value, int) else value
        if not isinstance(text, str) or any("\ud800" <= character <= "\udfff" for character in text):
            raise UserError(where, f"{key} is {value!r}", "make it a text of whole characters, or leave it out")
        return text
    return value
