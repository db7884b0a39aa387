"""The training curve, the dev transcripts and the throughput that a training writes, checked from outside."""

import json
from pathlib import Path
from typing import Any

import pytest

from hlas.decode.greedy import greedy_texts
from hlas.decode.logprobs import read_log_probs
from hlas.decode.tune import error_rates
from hlas.models import logprobs_stage
from hlas.models.training.samples import spread
from hlas.models.training.throughput import Speed, in_short, scalars, speed
from hlas.report.provenance import read_curve
from hlas.stage import Input, Summary
from hlas.tokenizers import stage as tokenizer_stage
from train_kit import MORE_DEV, Lab, curve, killed_in, make_lab, params


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("store"), MORE_DEV)


@pytest.fixture(scope="module")
def trained(lab: Lab) -> tuple[Summary, Path]:
    """Eight epochs, in which the tiny model begins to write letters; dev in batches of two, whose WERs differ."""
    given = params(epochs=8)
    given.model["validation_ds"] = {"batch_size": 2}
    given.model["optim"] = {"name": "adamw", "lr": 0.03}
    summary = lab.train("train-curve", given, lab.tokenizer(tokenizer_stage.Params("char")))
    return summary, lab.store / "train-curve"


def samples(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_dev_rates_of_the_best_epoch_are_those_of_its_model_decoded_by_the_stages(
    lab: Lab, trained: tuple[Summary, Path]
) -> None:
    summary, folder = trained
    stage = lab.stage("logprobs-curve", acoustic=Input(folder / "model.nemo"), data=[lab.split("dev")])
    logprobs_stage.run(logprobs_stage.Params(dtype="float32"), stage)
    log_probs = read_log_probs(stage.folder, "dev")
    heard = list(greedy_texts(log_probs))
    rates = error_rates(MORE_DEV, heard)
    best = curve(folder)[summary["best_epoch"]]
    assert best["dev_wer"] == pytest.approx(rates.wer, abs=1e-5)
    assert best["dev_cer"] == pytest.approx(rates.cer, abs=1e-5)
    assert 0 < best["dev_cer"] < 1  # else this compares nothing with nothing
    told = {row["reference"]: row["hypothesis"] for row in samples(folder) if row["epoch"] == summary["best_epoch"]}
    assert told == dict(zip(MORE_DEV, heard, strict=True))


def test_tensorboard_has_the_curve_and_the_samples_and_nemo_counts_the_same_word_errors(
    trained: tuple[Summary, Path],
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = trained[1]
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    for name, key in (("val_wer", "dev_wer"), ("dev_wer", "dev_wer"), ("dev_cer", "dev_cer"), ("val_loss", "dev_loss")):
        assert [e.value for e in events.Scalars(name)] == pytest.approx([r[key] for r in curve(folder)], abs=1e-5)
    (tag,) = (tag for tag in events.Tags()["tensors"] if tag.startswith("dev samples"))
    assert [e.step for e in events.Tensors(tag)] == [e.step for e in events.Scalars("dev_wer")]
    assert len(events.Tensors(tag)) == 8
    assert "    cab\n" in events.Tensors(tag)[-1].tensor_proto.string_val[0].decode()


def test_tensorboard_has_how_fast_the_epochs_were(trained: tuple[Summary, Path]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events, rows = EventAccumulator(str(trained[1] / "tensorboard")).Reload(), curve(trained[1])
    steps = [e.step for e in events.Scalars("dev_wer")]
    waits = [row["batches"] * row["wait_s_per_step"] / row["train_seconds"] for row in rows]
    assert [e.value for e in events.Scalars("wait_share")] == pytest.approx(waits, abs=1e-4)
    for name in ("samples_per_s", "wait_s_per_step"):
        assert [e.value for e in events.Scalars(name)] == pytest.approx([row[name] for row in rows], rel=1e-5)
        assert [e.step for e in events.Scalars(name)] == steps
    assert "gpu_memory_gib" not in events.Tags()["scalars"]  # there is none


def test_a_line_says_how_fast_the_epoch_was(trained: tuple[Summary, Path]) -> None:
    summary, folder = trained
    rows = curve(folder)
    assert [row["epoch"] for row in rows] == list(range(8))
    for row in rows:
        assert (row["utterances"], row["batches"], row["gpu_memory_gib"]) == (8, 2, None)
        assert 0 < row["train_seconds"] < row["seconds"] + 0.01
        assert row["samples_per_s"] == pytest.approx(8 / row["train_seconds"], rel=0.05)
        assert row["audio_s_per_s"] > 0
        assert 0 < row["wait_s_per_step"] <= row["wait_s_max"] < row["train_seconds"]
    assert 0 < summary["wait_share"] < 1
    assert min(r["samples_per_s"] for r in rows) <= summary["samples_per_s"] <= max(r["samples_per_s"] for r in rows)


def test_the_audio_counted_is_that_of_the_clips_and_the_log_tells_the_speed(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    given = params(epochs=1)
    given.model["train_ds"].pop("augmentor", None)  # speed would change it
    with caplog.at_level("INFO", "hlas"):
        lab.train("train-audio", given, lab.tokenizer(tokenizer_stage.Params("char")))
    (row,) = curve(lab.store / "train-audio")
    (line,) = (message for message in caplog.messages if message.startswith("epoch 1 of 1"))
    assert f"({row['seconds']:.1f} s; {row['samples_per_s']:.1f} samples/s, {speed([row]).wait_share:.1%}" in line
    clips = [json.loads(line) for line in lab.split("train").path.read_text(encoding="utf-8").splitlines()]
    audio_s = row["audio_s_per_s"] * row["train_seconds"]
    assert audio_s == pytest.approx(sum(clip["duration"] for clip in clips), rel=0.01)


def test_a_resumed_training_doubles_no_line(lab: Lab) -> None:
    tokenizer = lab.tokenizer(tokenizer_stage.Params("char"))
    with killed_in(2):
        lab.train("train-killed", params(epochs=3), tokenizer)
    folder = lab.store / "train-killed"
    assert [row["epoch"] for row in curve(folder)] == [0, 1]  # the second without a checkpoint
    lab.train("train-killed", params(epochs=3), tokenizer)
    assert [row["epoch"] for row in curve(folder)] == [0, 1, 2]
    assert [row["epoch"] for row in samples(folder)] == [e for e in range(3) for _ in MORE_DEV]


def test_an_epoch_without_validation_has_a_line_without_dev_numbers(lab: Lab) -> None:
    given = params(epochs=2, check_val_every_n_epoch=2)
    summary = lab.train("train-every-2", given, lab.tokenizer(tokenizer_stage.Params("char")))
    first, second = curve(lab.store / "train-every-2")
    assert first["dev_wer"] is None and first["train_loss"] > 0
    assert second["dev_wer"] == summary["best_dev_wer"]
    assert [e.epoch for e in read_curve(lab.store / "train-every-2")] == [1]


def test_samples_are_spread_over_the_lengths() -> None:
    lengths = [5, 40, 7, 33, 21, 22, 9, 60]
    chosen = spread(lengths, 4, seed=1)
    assert chosen == spread(lengths, 4, seed=1)
    assert [sorted(lengths).index(lengths[i]) // 2 for i in chosen] == [0, 1, 2, 3]  # one of each quarter
    assert spread(lengths, 100, seed=1) == sorted(range(8), key=lambda i: lengths[i])
    assert len({tuple(spread(lengths, 4, seed)) for seed in range(20)}) > 1
    assert spread([], 3, seed=1) == []


def test_the_throughput_of_a_training() -> None:
    one = {"train_seconds": 10.0, "batches": 4, "samples_per_s": 8.0, "wait_s_per_step": 0.5, "gpu_memory_gib": 1.5}
    two = one | {"train_seconds": 30.0, "samples_per_s": 2.0, "gpu_memory_gib": 1.25}
    assert speed([one, two, {"epoch": 2}]) == Speed(5.0, 4 * 0.5 * 2 / 40, 1.5)
    assert speed([{"epoch": 0, "seconds": 3.0}]) == Speed(None, None, None)  # a line of an older version
    assert in_short(one) == "8.0 samples/s, 20.0% of it waiting for data, 1.5 GiB of the GPU"
    assert scalars(one) == {"samples_per_s": 8.0, "wait_s_per_step": 0.5, "wait_share": 0.2, "gpu_memory_gib": 1.5}
