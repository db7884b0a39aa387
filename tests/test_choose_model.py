"""The README's table of measured models is made by its tool, from a finished run and from what is committed."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hlas.errors import UserError
from hlas.files import write_json
from hlas.paths import project_root
from hlas.store import Record, Source, write_record


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("choose_model", project_root() / "tools" / "choose_model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["choose_model"] = module
    spec.loader.exec_module(module)
    return module


def entry(name: str, **scores: dict[str, Any]) -> dict[str, Any]:
    return {
        "made": f"train-{name}",
        "recipe": "r",
        "stage": "train",
        "model": name,
        "kind": "train",
        "parameters": 2_500_000,
        "trainable": 500_000,
        "speech_h": 1.7,
        "train_s": 125,
        "hardware": "2 cores, a processor",
        "commit": "abc",
        "date": "2026-11-21",
        **scores,
    }


def scored(dev: float, test: float) -> dict[str, Any]:
    both = {s: {"wer": w, "low": w - 0.02, "high": w + 0.02, "cer": w / 3} for s, w in (("dev", dev), ("test", test))}
    return {"system": "beam", **both}


def finished(folder: Path, name: str, sources: dict[str, str], **summary: Any) -> None:
    """A finished stage; `sources`: its inputs and the stages of the store that they came from."""
    kind, environment = (
        folder.name.partition("-")[0],
        {"machine": {"gpu": "", "cores": 2, "processor": "P"}, "commit": "c"},
    )
    inputs = {key: (Source(source, "", source, ""),) for key, source in sources.items()}
    folder.mkdir(parents=True)
    record = Record(name, kind, 1, "f", {}, {}, inputs, summary, 125.0, "2026-11-21T10:00:00", environment)
    write_record(folder, record)


def test_a_system_is_told_by_its_last_training(tool: ModuleType, tmp_path: Path) -> None:
    store, run = tmp_path / "store", tmp_path / "r"
    finished(store / "finetune-1", "first", {}, trainable=1, parameters=9, model="Whisper base")
    finished(store / "finetune-2", "second", {"init": "finetune-1"}, trainable=2, parameters=9, model="Whisper base")
    finished(store / "transcribe-3", "tuned", {"weights": "finetune-2"}, model="Whisper base, other weights")
    finished(store / "transcribe-4", "as_it_is", {}, model="Whisper base")
    run.mkdir()
    scores = {split: {"wer": 0.5, "wer_ci95": [0.4, 0.6], "cer": 0.2} for split in ("dev", "test")}
    for name, folder in (("tuned", "transcribe-3"), ("as_it_is", "transcribe-4")):
        (run / name).symlink_to(store / folder)
    write_json(run / "metrics.json", {"recipe": "r", "systems": {"tuned": scores, "as_it_is": scores}})
    tuned, plain = tool.measured(run)
    assert (tuned["stage"], tuned["kind"], tuned["trainable"], tuned["train_s"]) == ("second", "finetune", 2, 125)
    assert (plain["stage"], plain["kind"], plain["trainable"], plain["train_s"]) == (
        "as_it_is",
        "transcribe",
        None,
        None,
    )


def test_the_readme_holds_what_the_tool_writes(tool: ModuleType) -> None:
    entries = json.loads(tool.RESULTS.read_text(encoding="utf-8"))
    assert entries
    readme = tool.README.read_text(encoding="utf-8")
    assert tool.with_table(readme, tool.table(entries)) == readme


def test_the_best_on_dev_comes_first(tool: ModuleType) -> None:
    worse = entry("worse", plain=scored(0.5, 0.2), lm=scored(0.45, 0.1))
    better = entry("better", plain=scored(0.6, 0.6), lm=scored(0.3, 0.35))
    lines = tool.table([worse, better]).splitlines()
    assert lines[2] == (
        "| better (train) | `r` | 0.5 M of 2.5 M | 2 min | 60.0 (58.0–62.0), beam | 35.0 (33.0–37.0), beam |"
    )
    assert lines[3].startswith("| worse")


def test_a_readme_without_the_place_is_told(tool: ModuleType) -> None:
    with pytest.raises(UserError, match="lacks the lines"):
        tool.with_table("# hlas", "| table |")


def test_a_model_of_several_recipes_stands_once_with_what_is_best_on_dev(tool: ModuleType) -> None:
    first, second = entry("m", lm=scored(0.5, 0.3)) | {"recipe": "a"}, entry("m", lm=scored(0.4, 0.6)) | {"recipe": "b"}
    other = entry("n", lm=scored(0.45, 0.5))
    assert [e["recipe"] for e in tool.once([first, second, other])] == ["b", "r"]
    assert [e["recipe"] for e in tool.once([second, first])] == ["b"]
