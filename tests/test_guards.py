"""Trainings that cannot go on: the message names the batch and what to change, and the last good weights are kept."""

import re
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from hlas.errors import UserError
from hlas.manifests.rows import Row, read_manifest, write_rows
from hlas.models import train_stage
from hlas.models.nemo_ctc import CtcModel
from hlas.models.training.options import KeepOutputs
from hlas.stage import Input
from hlas.tokenizers import stage as tokenizer_stage
from train_kit import RATE, Lab, fit_job, make_lab, params, spoken


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
    assert re.search(
        r"the loss is nan in epoch 1, train batch 3 \(one clip, 1\.0 s: broken\.wav\)", raised.value.problem
    )
    assert raised.value.problem.endswith(f"the audio itself is not made of numbers: {lab.store}/manifests/broken.wav")
    assert raised.value.fix.startswith("mend the clip, or leave its row out of the manifest; ")
    assert "nothing to go on from" in raised.value.fix and "lr" not in raised.value.fix


def test_a_clip_of_two_channels_is_named(lab: Lab, tokenizer: Input) -> None:
    path = lab.store / "manifests" / "train.jsonl"
    clip = path.with_name(read_manifest(path)[1].audio_filepath)
    soundfile.write(clip, np.stack([soundfile.read(clip)[0]] * 2, axis=1), RATE)
    with pytest.raises(UserError, match=rf"manifests/{clip.name}: 2 channels, of which a model hears one"):
        lab.train("train-stereo", params(), tokenizer)
    chosen = params(epochs=1)
    chosen.model["train_ds"]["channel_selector"] = "average"
    assert lab.train("train-averaged", chosen, tokenizer)["epochs"] == 1


def test_a_broken_dev_clip_is_named(lab: Lab, tokenizer: Input) -> None:
    add_broken_clip(lab, "dev")
    with pytest.raises(UserError, match=r"(?s)dev batch 1 \(3 clips.*not made of numbers: /.*/manifests/broken.wav\n"):
        lab.train("train-nan-dev", params(), tokenizer)


def test_a_training_that_diverges_leaves_the_weights_of_the_last_good_epoch(lab: Lab, tokenizer: Input) -> None:
    """Weights beyond all bounds in the third epoch, from a learning rate that a schedule raises without end."""
    given = params(epochs=6, accumulate_grad_batches=1)
    given.model["optim"] = {"name": "sgd", "lr": 0.01, "sched": {"name": "ExponentialLR", "gamma": 1e12}}
    with pytest.raises(UserError, match=r"the loss is|the weights are not numbers") as raised:
        lab.train("train-diverges", given, tokenizer)
    start = Path(re.search(r"init=(\S+) starts from the weights after epoch (\d)", raised.value.fix)[1])  # type: ignore[index]
    assert raised.value.fix.startswith("lower model.optim.lr")
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
    with pytest.raises(UserError) as raised:
        lab.train("train-missing", given, tokenizer)
    assert raised.value.problem.startswith(f"{lab.store}/manifests/train0.wav: ")
    assert raised.value.problem.endswith("Format not recognised.")


def test_a_batch_of_one_clip_is_not_halved(lab: Lab, tokenizer: Input, hungry: Any) -> None:
    hungry("training_step", 0)
    given = params()
    given.model["train_ds"]["batch_size"] = 1
    with pytest.raises(UserError, match=r"train batch 1 \(one clip, 1\.0 s: train\d\.wav\)") as raised:
        lab.train("train-memory-one", given, tokenizer)
    assert raised.value.fix == (
        "lower model.train_ds.max_duration (now 16.7) below the 1.0 s of this clip, or choose a smaller model"
    )


def test_a_lack_of_memory_in_the_screening_names_the_length(
    lab: Lab, tokenizer: Input, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from hlas.models.nemo_quiet import import_asr

    def ask(self: Any, **_: Any) -> Any:
        torch.empty(1 << 60)

    monkeypatch.setattr(import_asr().models.EncDecCTCModel, "forward", ask)
    with pytest.raises(UserError, match=r"the machine has no memory for a clip of 8\.0 s(.|\n)*max_duration"):
        lab.train("train-memory-screening", params(), tokenizer)


def test_a_lack_of_memory_for_the_model_itself(lab: Lab, tokenizer: Input, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from hlas.models.nemo_quiet import import_asr
    from hlas.models.training.build import build_model

    start = lab.store / "start.nemo"
    build_model(fit_job(lab, params()), None).save_to(str(start))
    kind = import_asr().models.EncDecCTCModel
    own = kind.to

    def ask(self: Any, *given: Any, **keys: Any) -> Any:
        if self._trainer is not None:  # the one that is to be trained
            torch.empty(1 << 60)
        return own(self, *given, **keys)

    monkeypatch.setattr(kind, "to", ask)
    given = params()
    given = replace(given, model={**given.model, "spec_augment": None}, freeze="encoder", keep_outputs=KeepOutputs())
    with pytest.raises(UserError, match=r"train: the machine has no memory for the model\n  fix: choose a smaller one"):
        lab.train("train-memory-model", given, tokenizer, init=start)


def test_another_process_names_only_weights_that_are_there(lab: Lab) -> None:
    from hlas.models.training.guards import Guard, NotANumber

    def fix() -> str:
        with pytest.raises(UserError) as raised, guard.explained(job, second):
            raise NotANumber("the loss is nan")
        return raised.value.fix

    guard, second = Guard(lambda model, path: None, ".nemo"), SimpleNamespace(global_rank=1)
    job = fit_job(lab, params())
    folder = job.folder / "checkpoints"
    folder.mkdir()
    zipfile.ZipFile(folder / "last.ckpt", "w").close()
    assert "init=" not in fix()
    (folder / "last_good.nemo").touch()  # by the first process
    assert fix().endswith(f"init={folder / 'last_good.nemo'}")


def test_a_validation_without_a_word_is_no_rate(lab: Lab, tokenizer: Input) -> None:
    """The shortest dev clip comes first, and its transcript is empty."""
    soundfile.write(lab.store / "manifests" / "hush.wav", spoken("a "), RATE)
    path = lab.split("dev").path
    write_rows(path, [Row("hush.wav", 0.32, ""), *read_manifest(path)])
    given = params(epochs=1, limit_val_batches=1)
    given.model["validation_ds"] = {"batch_size": 1}
    with pytest.raises(UserError, match=r"not one word in the references(.|\n)*raise trainer\.limit_val_batches"):
        lab.train("train-hush", given, tokenizer)
