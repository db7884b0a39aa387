"""Which utterances an epoch is made of, in which batches, on which process, and how each is augmented."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlas.errors import UserError
from hlas.models.training.batching import BatchSampler, Limits, TrainBatches, dev_batches, share
from hlas.models.training.job import Fit
from hlas.tokenizers import stage as tokenizer_stage
from train_kit import Lab, params

DURATIONS_S = st.lists(st.floats(0.1, 20.0), min_size=1, max_size=80)
LIMITS = st.builds(
    Limits,
    st.none() | st.integers(1, 9),
    st.floats(20.0, 90.0),
    st.integers(1, 5),
) | st.builds(Limits, st.integers(1, 9))


@given(DURATIONS_S, LIMITS, st.integers(1, 3), st.integers(0, 5), st.booleans())
def test_an_epoch_has_every_row_once_within_the_limits(
    durations_s: list[float], limits: Limits, ranks: int, epoch: int, shuffle: bool
) -> None:
    batches = TrainBatches(durations_s, limits, seed=1, ranks=ranks, shuffle=shuffle)
    made = batches.epoch(epoch)
    assert sorted(row for batch in made for row in batch) == list(range(len(durations_s)))
    assert len(made) == len(batches)  # the same in every epoch: Lightning and the schedules count on it
    for batch in made:
        shares = [share(batch, rank, ranks) for rank in range(ranks)]
        assert set().union(*shares) == set(batch) and all(shares)
        for own in shares:
            assert len(own) <= (limits.batch_size or len(own))
            assert len(own) * max(durations_s[row] for row in own) <= (limits.batch_duration_s or np.inf) + 1e-6


@given(DURATIONS_S, st.integers(1, 5), st.integers(0, 3))
def test_two_processes_see_what_one_with_twice_the_batch_sees(durations_s: list[float], size: int, epoch: int) -> None:
    two = TrainBatches(durations_s, Limits(size), seed=1, ranks=2).epoch(epoch)
    assert two == TrainBatches(durations_s, Limits(2 * size), seed=1).epoch(epoch)


@given(DURATIONS_S, LIMITS, st.integers(1, 4))
def test_dev_rows_are_heard_once_by_all_processes_together(
    durations_s: list[float], limits: Limits, ranks: int
) -> None:
    per_rank = [dev_batches(durations_s, limits, rank, ranks) for rank in range(ranks)]
    assert len({len(batches) for batches in per_rank}) == 1  # NeMo's WER waits for all of them in every batch
    heard = Counter(row for batches in per_rank for batch in batches for row in batch)
    assert set(heard) == set(range(len(durations_s)))
    assert set(heard.values()) == {1 if len(durations_s) >= ranks else ranks}
    if len(durations_s) >= 20 * ranks:  # rows that fit on no process alone may be too many for the last batches
        for batch in (batch for batches in per_rank for batch in batches):
            assert len(batch) <= (limits.batch_size or len(batch))


def test_the_order_comes_from_the_seed_and_the_epoch() -> None:
    durations_s = np.random.default_rng(1).uniform(1, 15, 200).tolist()
    for limits in (Limits(4), Limits(None, 60.0)):
        order = {
            (seed, epoch): str(TrainBatches(durations_s, limits, seed=seed).epoch(epoch))
            for seed in (1, 2)
            for epoch in (0, 1, 7)
        }
        assert len(set(order.values())) == 6
        assert order[1, 7] == str(TrainBatches(durations_s, limits, seed=1).epoch(7))
    ordered = TrainBatches(durations_s, Limits(4), seed=1, shuffle=False)
    assert ordered.epoch(0) == ordered.epoch(1) == [list(range(i, i + 4)) for i in range(0, 200, 4)]


def test_batches_by_duration_waste_little_and_mix() -> None:
    durations_s = np.random.default_rng(1).gamma(6, 0.9, 3000).clip(1, 16).tolist()
    batches = TrainBatches(durations_s, Limits(None, 120.0), seed=1)
    padded = sum(batches.padded_s(batch) for batch in batches.epoch(3))
    assert sum(durations_s) / padded > 0.9
    assert len(batches) < 1.2 * sum(durations_s) / 120.0
    mates = [
        {other for batch in batches.epoch(epoch) if 0 in batch for other in batch if other} for epoch in range(1, 3)
    ]
    assert len(mates[0] & mates[1]) < 0.5 * len(mates[0])  # a clip meets others in every epoch
    first = batches.epoch(0)
    assert batches.padded_s(first[0]) == max(map(batches.padded_s, first))  # a lack of memory shows at once


def test_incomplete_batches_can_be_dropped() -> None:
    assert [len(batch) for batch in TrainBatches([1.0] * 10, Limits(4), seed=1).epoch(1)].count(2) == 1
    assert [len(b) for b in TrainBatches([1.0] * 10, Limits(4), seed=1, drop_last=True).epoch(1)] == [4, 4]
    with pytest.raises(UserError, match="not one batch is full"):
        TrainBatches([1.0] * 3, Limits(4), seed=1, drop_last=True)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Limits(), "neither batch_size nor batch_duration"),
        (lambda: Limits(0), "batch_size: 0 is not positive"),
        (lambda: Limits(4, -1.0), "batch_duration: -1.0 is not positive"),
        (lambda: TrainBatches([3.0, 9.0], Limits(4, 8.0), seed=1), "the longest clip has 9.0 s and fits into no batch"),
    ],
)
def test_limits_that_no_batch_keeps_are_refused(make: Callable[[], Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        make()


NOISY = {"white_noise": {"prob": 1.0, "min_level": -60, "max_level": -30}, "gain": {"prob": 0.5}}


@pytest.fixture(scope="module")
def load(lab: Lab) -> Callable[..., Any]:
    """The loaders (train, dev) that a training would read."""
    import logging

    from hlas.models.training.build import build_model
    from hlas.models.training.loading import attach_loaders
    from hlas.models.training.screening import screen

    labels = tokenizer_stage.read_labels(lab.tokenizer(tokenizer_stage.Params("char")).path)
    folder = lab.store / "train"
    folder.mkdir()

    def loaders(seed: int = 1, rank: int = 0, ranks: int = 1, **train_ds: Any) -> tuple[Any, Any]:
        model_keys = params().model
        model_keys["train_ds"] |= train_ds
        train, dev = (lab.split(split).path for split in ("train", "dev"))
        job = Fit(model_keys, {}, "32", seed, train, dev, labels, folder)
        model = build_model(job, None)
        log = logging.getLogger("hlas")
        attach_loaders(model, job, screen(model, job, log), rank, ranks, log)
        return model._train_dl, model._validation_dl

    return loaders


def heard(loader: Any, epoch: int) -> list[bytes]:
    """The samples of each utterance, without padding, in the loader's order."""
    loader.batch_sampler.epoch = epoch
    return [
        signal[:length].numpy().tobytes()
        for signals, lengths, *_ in loader
        for signal, length in zip(signals, lengths, strict=True)
    ]


def test_an_utterance_is_augmented_by_seed_epoch_and_row_alone(load: Callable[..., Any]) -> None:
    loader, _ = load(augmentor=NOISY)
    whole = heard(loader, 3)
    assert len(set(whole)) == 8
    by_workers, _ = load(augmentor=NOISY, num_workers=2)
    assert heard(by_workers, 0) == heard(loader, 0)
    assert heard(by_workers, 3) == whole  # workers that live on know of the epoch
    two = [load(augmentor=NOISY, batch_size=2, rank=rank, ranks=2)[0] for rank in (0, 1)]
    shares = [heard(each, 3) for each in two]
    for step in (slice(0, 2), slice(2, 4)):
        both = slice(2 * step.start, 2 * step.stop)
        assert sorted(shares[0][step] + shares[1][step]) == sorted(whole[both])
    assert not set(whole) & set(heard(loader, 4))
    other, _ = load(seed=2, augmentor=NOISY)
    assert not set(whole) & set(heard(other, 3))


def test_only_what_is_augmented_pays_for_random_states(load: Callable[..., Any]) -> None:
    assert [load(**changes)[0].dataset.augmented for changes in ({}, {"augmentor": NOISY})] == [False, True]
    assert not load(augmentor=NOISY)[1].dataset.augmented  # dev never is


def test_loading_leaves_the_random_state_alone(load: Callable[..., Any]) -> None:
    import torch

    loader, dev = load(augmentor=NOISY)

    def state() -> tuple[Any, ...]:
        return random.random(), np.random.random(), float(torch.rand(()))

    def seed() -> None:
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)

    seed()
    expected = state()
    seed()
    heard(loader, 1)
    heard(dev, 0)
    assert state() == expected


def test_dev_is_heard_as_it_is_shortest_first(load: Callable[..., Any], lab: Lab) -> None:
    import soundfile

    _, dev = load(augmentor=NOISY)
    manifests = lab.store / "manifests"
    clips = [soundfile.read(manifests / f"dev{i}.wav", dtype="float32")[0] for i in (1, 0)]
    assert heard(dev, 0) == [clip.tobytes() for clip in clips]


def test_rows_of_a_batch_are_those_that_are_heard(load: Callable[..., Any], lab: Lab) -> None:
    import soundfile

    from hlas.models.training.loading import rows_of

    loader, _ = load(batch_duration=3.0, batch_size=None)
    paths = [row.audio_filepath for batch in range(len(loader)) for row in rows_of(loader, 2, batch)]
    folder = lab.store / "train"
    assert heard(loader, 2) == [soundfile.read(folder / path, dtype="float32")[0].tobytes() for path in paths]


def test_nemo_s_own_loaders_are_named(load: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    loader, dev = load(use_semi_sorted_batching=True)
    assert "train_ds.use_semi_sorted_batching: NeMo's own loader" in caplog.text
    assert not isinstance(loader.batch_sampler, BatchSampler) and isinstance(dev.batch_sampler, BatchSampler)


@pytest.mark.parametrize(
    ("trainer", "steps", "epochs"),
    [
        ({"max_epochs": 3}, 6, 3),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 3, 3),
        ({"max_epochs": 3, "accumulate_grad_batches": 3}, 3, 3),  # what is left over makes a step
        ({"max_epochs": 3, "limit_train_batches": 1}, 3, 3),
        ({"max_steps": 5}, 5, 3),
        ({"max_epochs": 2, "max_steps": 5}, 4, 2),
        ({"max_epochs": 9, "max_steps": 5}, 5, 3),
    ],
)
def test_the_schedule_has_the_steps_that_are_made(
    lab: Lab, trainer: dict[str, Any], steps: int, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learning rate of a cosine ends at its minimum, in the last step."""
    from nemo.core.optim.lr_scheduler import CosineAnnealing

    made: list[int] = []
    monkeypatch.setattr(CosineAnnealing, "__init__", _noting(made, CosineAnnealing.__init__))
    given_params = params(**({"epochs": trainer.pop("max_epochs", -1)} | trainer))
    summary = lab.train(f"train-{tmp_path.name}", given_params, lab.tokenizer(tokenizer_stage.Params("char")))
    assert made == [steps]
    assert (summary["steps"], summary["epochs"]) == (steps, epochs)


def _noting(made: list[int], own: Any) -> Any:
    def init(self: Any, optimizer: Any, *, max_steps: int, **keys: Any) -> None:
        made.append(max_steps)
        own(self, optimizer, max_steps=max_steps, **keys)

    return init
