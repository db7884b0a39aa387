"""The README's table of measured models is made by its tool, from a finished run and from what is committed."""

import importlib.util
import json
import sys
from types import ModuleType
from typing import Any

import pytest

from hlas.errors import UserError
from hlas.paths import project_root


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
