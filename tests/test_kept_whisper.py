"""A CTC head on kept outputs of Whisper's encoder: killed and resumed, and trained by two processes.

The weights are random ones of Whisper tiny's width, in a folder where hlas finds them by size.
"""

import signal
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from hlas.models import train_stage
from hlas.models.freezing import Freeze
from hlas.models.training.options import EarlyStopping, Experiment, KeepOutputs
from hlas.params import resolve_all
from hlas.paths import project_root
from hlas.stage import Input
from hlas.yamls import read_extended
from train_kit import Lab, curve, train_until_killed, write_whisper

LEARNT = ("epoch", "step", "train_loss", "dev_loss", "dev_wer", "dev_cer", "learning_rate")


@pytest.fixture(scope="module", autouse=True)
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Weights of Whisper tiny, for this process and those that it starts."""
    folder = tmp_path_factory.mktemp("whisper")
    write_whisper(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HLAS_WHISPER_HF_DIR", str(folder))
        yield


def given(freeze: Freeze, epochs: int) -> train_stage.Params:
    """whisper_ctc with Whisper tiny and a small head."""
    data, _ = resolve_all(read_extended(project_root() / "models/whisper_ctc.yaml").data, {})
    model = data["model"]
    model["encoder"] |= {"size": "tiny", "layers": [3, 4]}
    model["decoder"] |= {"hidden": 8}
    model["train_ds"]["batch_size"] = 2
    keep = KeepOutputs(tuple(data["keep_outputs"]["speeds"]))
    trainer = {"max_epochs": epochs, "accelerator": "cpu"}
    return train_stage.Params(model, trainer, seed=3, precision="32", freeze=freeze, keep_outputs=keep)


def learnt(folder: Path) -> list[list[Any]]:
    """The curve without what a clock measures."""
    return [[row[name] for name in LEARNT] for row in curve(folder)]


def weights(folder: Path) -> dict[str, Any]:
    import torch

    with tarfile.open(folder / "model.nemo") as archive:
        (name,) = (name for name in archive.getnames() if name.endswith(".ckpt"))
        return dict(torch.load(archive.extractfile(name), weights_only=True))


def test_a_killed_training_on_kept_outputs_goes_on_as_if_nothing_had_been(lab: Lab, tokenizer: Input) -> None:
    """The encoder's last layer learns, too; speeds, SpecAugment and dropout are drawn anew in every epoch."""
    params = given({"encoder_except_last": 1}, epochs=3)
    assert params.keep_outputs and len(params.keep_outputs.speeds) == 3
    assert params.model["decoder"]["dropout"] > 0 and params.model["spec_augment"]["time_masks"] > 0
    whole, killed = lab.store / "train-whole", lab.store / "train-killed"
    lab.train(whole.name, params, tokenizer)
    assert len({row["train_loss"] for row in curve(whole)}) == 3

    # spawned: a forked child of a process that runs torch's threads can hang
    child = get_context("spawn").Process(target=train_until_killed, args=(lab, killed.name, params, tokenizer, 1, 2))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert learnt(killed) == learnt(whole)[:1]
    assert (killed / "kept").is_dir()
    lab.train(killed.name, params, tokenizer)
    assert learnt(killed) == learnt(whole)
    expected, found = weights(whole), weights(killed)
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name].numpy().tobytes() != found[name].numpy().tobytes()] == []


def test_two_processes_on_kept_outputs_are_one(lab: Lab, tokenizer: Input) -> None:
    """Batches by duration, an average of the last epochs, early stopping; in all of them nothing depends on chance."""
    one = given("encoder", epochs=9)
    model = {**one.model, "spec_augment": None, "decoder": one.model["decoder"] | {"dropout": 0.0}}
    model["train_ds"] = {"batch_duration": 4.0, "num_workers": 0}  # four of the longest clips, of 0.96 s
    stopping = EarlyStopping("val_loss", patience=2, min_delta=1000.0)  # after the third epoch
    experiment = Experiment(
        create_early_stopping_callback=True, early_stopping_callback_params=stopping, average_last=2
    )
    one = replace(one, model=model, exp_manager=experiment, keep_outputs=KeepOutputs())
    halves = {**model, "train_ds": model["train_ds"] | {"batch_duration": 2.0}}
    two = replace(one, model=halves, trainer=one.trainer | {"devices": 2, "strategy": "ddp"})
    alone, together = lab.train("train-one", one, tokenizer), lab.train("train-two", two, tokenizer)
    assert [summary["processes"] for summary in (alone, together)] == [1, 2]
    for summary in (alone, together):
        assert (summary["epochs"], summary["steps"]) == (3, 6)
        assert set(summary["dev_wers"]) == {"best", "average of 2"}
    assert together["weights"] == alone["weights"]
    assert together["dev_wers"] == pytest.approx(alone["dev_wers"])
    rows = [curve(lab.store / name) for name in ("train-one", "train-two")]
    for ours, theirs in zip(*rows, strict=True):
        assert ours["utterances"] == theirs["utterances"] == 8
        for name in LEARNT:
            assert theirs[name] == pytest.approx(ours[name], rel=1e-3), name
    assert rows[0][2]["train_loss"] < rows[0][0]["train_loss"]
    expected, found = weights(lab.store / "train-one"), weights(lab.store / "train-two")
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert float((found[name] - tensor).abs().max()) < 1e-3, name
    assert not (lab.store / "train-two" / "kept").exists()
