"""Trainings that cannot go on: the message names the batch and what to change, and the last good weights are kept."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hlas.errors import UserError
from hlas.manifests.rows import Row, write_rows
from hlas.models import train_stage
from hlas.models.nemo_ctc import CtcModel
from hlas.stage import Input
from hlas.tokenizers import stage as tokenizer_stage
from train_kit import RATE, Lab, make_lab, params, spoken


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return make_lab(tmp_path)


@pytest.fixture
def tokenizer(lab: Lab) -> Input:
    return lab.tokenizer(tokenizer_stage.Params("char"))


def add_broken_clip(lab: Lab, split: str) -> None:
    """A clip of floats of which one is no number, as a failed resampler leaves it."""
    samples = spoken("abc ab")
    samples[1000] = np.nan
    folder = lab.store / "manifests"
    soundfile.write(folder / "broken.wav", samples, RATE, subtype="FLOAT")
    path = folder / f"{split}.jsonl"
    row = Row("broken.wav", len(samples) / RATE, "abc ab")
    lines = path.read_text(encoding="utf-8")
    write_rows(path, [row])
    path.write_text(lines + path.read_text(encoding="utf-8"), encoding="utf-8")


def test_a_clip_that_is_not_made_of_numbers_is_named(lab: Lab, tokenizer: Input) -> None:
    add_broken_clip(lab, "train")
    with pytest.raises(UserError) as raised:
        lab.train("train-nan", params(), tokenizer)
    assert re.search(r"the loss is nan in epoch 1, train batch \d \(\d clips, the longest", raised.value.problem)
    assert raised.value.problem.endswith("the audio itself is not made of numbers: ../manifests/broken.wav")
    assert "nothing to go on from" in raised.value.fix


def test_a_broken_dev_clip_is_named(lab: Lab, tokenizer: Input) -> None:
    add_broken_clip(lab, "dev")
    with pytest.raises(UserError, match=r"(?s)dev batch 1 \(3 clips.*not made of numbers: ../manifests/broken.wav"):
        lab.train("train-nan-dev", params(), tokenizer)


def test_a_training_that_diverges_leaves_the_weights_of_the_last_good_epoch(lab: Lab, tokenizer: Input) -> None:
    """Weights beyond all bounds in the third epoch, from a learning rate that a schedule raises without end."""
    given = params(epochs=6, accumulate_grad_batches=1)
    given.model["optim"] = {"name": "sgd", "lr": 0.01, "sched": {"name": "ExponentialLR", "gamma": 1e12}}
    with pytest.raises(UserError, match=r"the loss is|the weights are not numbers") as raised:
        lab.train("train-diverges", given, tokenizer)
    start = Path(re.search(r"init=(\S+) starts from the weights after epoch (\d)", raised.value.fix)[1])  # type: ignore[index]
    kept = CtcModel.load(start, "cpu").model.state_dict()
    assert all(bool(tensor.isfinite().all()) for tensor in kept.values())
    again = train_stage.Params(params(epochs=1).model, {"max_epochs": 1}, seed=3)
    assert lab.train("train-again", again, tokenizer, init=start)["decoder"] == "kept"


@pytest.fixture
def hungry(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a step of the training, or of the validation, ask for more memory than any machine has."""
    import torch

    from hlas.models.nemo_quiet import import_asr

    model = import_asr().models.EncDecCTCModel

    def make(step: str, at: int) -> None:
        own = getattr(model, step)

        def ask(self: Any, batch: Any, index: int) -> Any:
            if index == at:
                torch.empty(1 << 60)
            return own(self, batch, index)

        monkeypatch.setattr(model, step, ask)

    return make


def test_a_lack_of_memory_names_the_batch_and_both_settings(lab: Lab, tokenizer: Input, hungry: Any) -> None:
    hungry("training_step", 1)
    with pytest.raises(UserError) as raised:
        lab.train("train-memory", params(), tokenizer)
    assert raised.value.problem.startswith(
        "the machine is out of memory in epoch 1, train batch 2 (4 clips, the longest"
    )
    assert "halve model.train_ds.batch_size (now 4)" in raised.value.fix
    assert "double trainer.accumulate_grad_batches (now 1)" in raised.value.fix


def test_a_lack_of_memory_in_validation_names_its_setting(lab: Lab, tokenizer: Input, hungry: Any) -> None:
    hungry("validation_step", 0)
    with pytest.raises(UserError, match=r"(?s)epoch 1, dev batch 1 \(2 clips.*validation_ds.batch_size \(now 32\)$"):
        lab.train("train-memory-dev", params(), tokenizer)


def test_batches_limited_by_duration_have_another_setting(lab: Lab, tokenizer: Input, hungry: Any) -> None:
    hungry("training_step", 0)
    given = params()
    given.model["train_ds"] |= {"batch_duration": 2.0, "batch_size": None}
    with pytest.raises(UserError, match=r"halve model.train_ds.batch_duration \(now 2.0\) and double"):
        lab.train("train-memory-duration", given, tokenizer)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_clip_that_cannot_be_read_is_named(lab: Lab, tokenizer: Input, workers: int) -> None:
    (lab.store / "manifests" / "train0.wav").write_bytes(b"no audio")
    given = params()
    given.model["train_ds"]["num_workers"] = workers
    with pytest.raises(UserError, match=r"train0\.wav: "):
        lab.train("train-missing", given, tokenizer)
