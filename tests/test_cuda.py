"""Training on a GPU: mixed precision, a resume, GPU memory in the curve, kept outputs from pinned memory.

Only what a CPU cannot show: test_precision.py, test_resume.py and test_kept_training.py have the rest.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from hlas.models.training.options import KeepOutputs
from hlas.stage import Input, Summary
from train_kit import Lab, curve, killed_in, params

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
EPOCHS = 3


def trained(lab: Lab, tokenizer: Input, precision: Any, name: str = "") -> tuple[Summary, list[dict[str, Any]]]:
    """The summary and the curve of a tiny model; `name` where it is not its precision."""
    name = f"train-{name or precision}"
    return lab.train(name, replace(params(EPOCHS), precision=precision), tokenizer), curve(lab.store / name)


@pytest.mark.parametrize("precision", ["32", "16-mixed", "bf16-mixed"])
def test_a_training_uses_the_gpu_and_says_how_much_of_its_memory(lab: Lab, tokenizer: Input, precision: str) -> None:
    if precision == "bf16-mixed" and not torch.cuda.is_bf16_supported():
        pytest.skip("this GPU does not compute in bf16")
    summary, rows = trained(lab, tokenizer, precision)
    assert summary["device"] == torch.cuda.get_device_name()
    assert summary["precision"] == {"32": "32-true"}.get(precision, precision)
    assert [row["epoch"] for row in rows] == list(range(EPOCHS))
    assert all(math.isfinite(row["train_loss"]) and math.isfinite(row["dev_loss"]) for row in rows)
    assert all(row["gpu_memory_gib"] > 0 for row in rows)
    assert summary["peak_gpu_gib"] == max(row["gpu_memory_gib"] for row in rows)


def test_an_fp16_training_that_broke_off_goes_on(lab: Lab, tokenizer: Input) -> None:
    """With its loss scale: but for a GPU's order of sums the losses are those of the whole training."""
    _, whole = trained(lab, tokenizer, "16-mixed", "whole")
    with killed_in(2):
        trained(lab, tokenizer, "16-mixed", "killed")
    _, resumed = trained(lab, tokenizer, "16-mixed", "killed")
    assert [row["epoch"] for row in resumed] == list(range(EPOCHS))
    assert [row["step"] for row in resumed] == [row["step"] for row in whole]
    expected = [row["train_loss"] for row in whole]
    assert [row["train_loss"] for row in resumed] == pytest.approx(expected, rel=0.02)


def test_kept_outputs_come_in_pinned_memory(lab: Lab, tokenizer: Input, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch import Trainer

    pinned = []
    fit = Trainer.fit

    def look_first(trainer: Any, model: Any, **given: Any) -> None:
        batch = next(iter(model.train_dataloader()))
        pinned.extend(tensor.is_pinned() for tensor in batch)
        fit(trainer, model, **given)

    trained(lab, tokenizer, "32", "start")
    monkeypatch.setattr(Trainer, "fit", look_first)
    given = params(EPOCHS)
    given.model["spec_augment"] = None
    given = replace(given, precision="32", freeze="encoder", keep_outputs=KeepOutputs())
    lab.train("train-kept", given, tokenizer, init=lab.store / "train-start" / "model.nemo")
    assert pinned and all(pinned)
    assert all(row["gpu_memory_gib"] > 0 for row in curve(lab.store / "train-kept"))
