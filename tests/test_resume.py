"""A training that is killed and goes on is the one that was never killed, to the last bit; so are two of one seed."""

import signal
import tarfile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from hlas.models import train_stage
from hlas.stage import Input
from train_kit import Lab, curve, params, train_until_killed

TIMES = {"seconds", "train_seconds", "samples_per_s", "audio_s_per_s", "wait_s_per_step", "wait_s_max"}
EVERYTHING_RANDOM: dict[str, Any] = {
    "white_noise": {"prob": 0.7, "min_level": -60, "max_level": -40},  # numpy's generator
    "gain": {"prob": 0.5, "min_gain_dbfs": -6, "max_gain_dbfs": 6},  # Python's
}


def random_everywhere(workers: int = 0, seed: int = 3, sched: dict[str, Any] | None = None, **trainer: Any) -> Any:
    """Dropout, SpecAugment, SpecCutout, augmented audio; two batches a step, three steps an epoch, but for the last."""
    made = params(**({"epochs": 4, "accumulate_grad_batches": 2} | trainer))
    model = made.model
    for block in model["encoder"]["jasper"]:
        block["dropout"] = 0.2
    model["train_ds"] |= {"batch_size": 2, "num_workers": workers, "augmentor": EVERYTHING_RANDOM}
    model["spec_augment"] |= {"freq_masks": 1, "freq_width": 10, "time_masks": 1, "time_width": 0.1, "rect_masks": 2}
    model["spec_augment"] |= {"rect_time": 5, "rect_freq": 10}
    if sched:
        model["optim"]["sched"] = sched
    return train_stage.Params(model, made.trainer, seed=seed)


def train(
    lab: Lab, name: str, given: train_stage.Params, tokenizer: Input, kill_at: tuple[int, int] | None = None
) -> Any:
    """The curve and the weights; killed in the middle of a batch first, where `kill_at` says (epoch, batch)."""
    folder = lab.store / name
    if kill_at:
        # spawned: a forked child of a process that runs torch's threads can hang
        child = get_context("spawn").Process(target=train_until_killed, args=(lab, name, given, tokenizer, *kill_at))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert not (folder / "model.nemo").exists()
        done = curve(folder) if (folder / "curve.jsonl").exists() else []
        assert [row["epoch"] for row in done] == list(range(kill_at[0]))
    lab.train(name, given, tokenizer)
    return [{k: v for k, v in row.items() if k not in TIMES} for row in curve(folder)], weights(folder)


def weights(folder: Path) -> dict[str, bytes]:
    import torch

    with tarfile.open(folder / "model.nemo") as archive:
        (name,) = (name for name in archive.getnames() if name.endswith(".ckpt"))
        state = torch.load(archive.extractfile(name), weights_only=True)
    return {key: tensor.numpy().tobytes() for key, tensor in state.items()}


@pytest.fixture(scope="module")
def whole(lab: Lab, tokenizer: Input) -> Any:
    """A training that nothing interrupts."""
    return train(lab, "train-whole", random_everywhere(), tokenizer)


def test_a_killed_training_goes_on_as_if_nothing_had_been(lab: Lab, tokenizer: Input, whole: Any) -> None:
    assert [row["step"] for row in whole[0]] == [2, 4, 6, 8]
    assert len({row["train_loss"] for row in whole[0]}) == 4
    assert train(lab, "train-killed", random_everywhere(), tokenizer, kill_at=(2, 1)) == whole


def test_workers_change_nothing_nor_do_they_after_a_kill(lab: Lab, tokenizer: Input, whole: Any) -> None:
    assert train(lab, "train-workers", random_everywhere(workers=2), tokenizer, kill_at=(3, 3)) == whole


def test_a_kill_in_the_first_epoch_starts_over(lab: Lab, tokenizer: Input, whole: Any) -> None:
    assert train(lab, "train-first", random_everywhere(), tokenizer, kill_at=(0, 2)) == whole


def test_another_seed_is_another_training(lab: Lab, tokenizer: Input, whole: Any) -> None:
    rows, state = train(lab, "train-seed", random_everywhere(seed=4), tokenizer)
    assert [row["train_loss"] for row in rows] != [row["train_loss"] for row in whole[0]]
    assert state.keys() == whole[1].keys() and state != whole[1]


def test_a_plateau_is_remembered(lab: Lab, tokenizer: Input) -> None:
    sched = {"name": "ReduceLROnPlateau", "monitor": "val_loss", "factor": 0.5, "patience": 0, "threshold": 10.0}
    given = random_everywhere(sched=sched)
    rows, state = train(lab, "train-plateau", given, tokenizer)
    rates = [row["learning_rate"] for row in rows]
    assert rates == [rates[0] / 2**n for n in range(4)]  # no epoch is better by the threshold
    assert train(lab, "train-plateau-killed", given, tokenizer, kill_at=(2, 0)) == (rows, state)


def test_a_number_of_steps_ends_in_the_middle_of_an_epoch(lab: Lab, tokenizer: Input) -> None:
    given = random_everywhere(epochs=-1, max_steps=5)
    rows, state = train(lab, "train-steps", given, tokenizer)
    assert [row["step"] for row in rows] == [2, 4, 5]  # the last epoch is cut off, and validated
    assert train(lab, "train-steps-killed", given, tokenizer, kill_at=(2, 0)) == (rows, state)
