"""The epochs of a fine-tuning: the best of them is kept, it stops where none is better, and a kill changes nothing."""

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import pytest

from finetune_kit import DEV, LORA, Bench, changed, given, numbers, same, tensors, tune_until_killed
from hlas.manifests.rows import read_hypotheses, read_manifest, write_rows
from hlas.models.training.options import EarlyStopping, Experiment, KeepOutputs
from hlas.stage import Input
from train_kit import curve

pytest_plugins = ("whisper_kit", "finetune_kit")


@pytest.fixture(scope="module")
def own_words(bench: Bench) -> Input:
    """The dev clips with what the base hears in them as their texts, so that whatever it learns only makes it worse."""
    heard = read_hypotheses(bench.transcribe("base", bench.base, engine="transformers", padding_s=1.0))
    assert all(h.pred_text for h in heard)
    return dev_with(bench, "own-words", [h.pred_text for h in heard])


def dev_with(bench: Bench, name: str, texts: Sequence[str]) -> Input:
    """The dev clips with these texts."""
    source = bench.lab.split("dev").path.parent
    rows = [
        replace(row, text=text, audio_filepath=str(source / row.audio_filepath))
        for row, text in zip(read_manifest(source / "dev.jsonl"), texts, strict=True)
    ]
    folder = bench.lab.store / name
    folder.mkdir()
    write_rows(folder / "dev.jsonl", rows)
    return Input(folder / "dev.jsonl", "manifests", "dev")


@pytest.mark.parametrize("adapter", [None, LORA], ids=["whole", "lora"])
def test_the_best_epoch_is_saved_and_not_the_last(bench: Bench, own_words: Input, adapter: Any) -> None:
    name = f"best-{'lora' if adapter else 'whole'}"
    rising = {"name": "adamw", "lr": 1e-8, "sched": {"name": "ExponentialLR", "gamma": 3e7}}  # an epoch
    summary = bench.train(name, given(2, model={"optim": rising}, adapter=adapter), dev=own_words)
    first, last = curve(bench.lab.store / name)
    assert (summary["best_epoch"], summary["best_dev_wer"]) == (0, 0.0) == (0, first["dev_wer"])
    assert last["dev_wer"] > 0.1
    said = [h.raw_pred_text for h in read_hypotheses(bench.lab.store / "base" / "dev.jsonl")]
    assert bench.texts(f"{name}-heard", bench.model(name), engine="transformers", padding_s=1.0) == said


@pytest.mark.parametrize(("monitor", "epochs"), [("val_wer", 2), ("val_loss", 3)])
def test_it_stops_where_what_it_watches_becomes_no_better(
    bench: Bench, own_words: Input, monitor: Any, epochs: int
) -> None:
    """While the loss falls a little in every epoch, the words stay as they are."""
    stopping = EarlyStopping(monitor, patience=1, min_delta=0.0)
    experiment = Experiment(create_early_stopping_callback=True, early_stopping_callback_params=stopping)
    name = f"early-{monitor}"
    summary = bench.train(name, given(3, lr=1e-6, exp_manager=experiment), dev=own_words)
    rows = curve(bench.lab.store / name)
    assert summary["epochs"] == epochs == len(rows)
    assert {row["dev_wer"] for row in rows} == {0.0}


def test_it_stops_though_no_word_was_ever_right(bench: Bench) -> None:
    """A CTC model's WER of 1 may be that of its first blanks; a Whisper's is none to wait for."""
    stopping = EarlyStopping(patience=1)
    experiment = Experiment(create_early_stopping_callback=True, early_stopping_callback_params=stopping)
    dev = dev_with(bench, "unheard", ["unheard"] * len(DEV))
    assert bench.train("hopeless", given(3, lr=1e-8, exp_manager=experiment), dev=dev)["epochs"] == 2
    assert min(row["dev_wer"] for row in curve(bench.lab.store / "hopeless")) >= 1


WHITE = {"white_noise": {"prob": 0.7, "min_level": -50, "max_level": -30}}
KILLED: Mapping[str, Mapping[str, Any]] = {  # trainings, each with all the chance that there can be
    "frozen": {
        "freeze": "encoder",
        "model": {
            "dropout": 0.1,
            "spec_augment": {"freq_masks": 1, "freq_width": 20},
            "train_ds": {"batch_size": 4, "augmentor": WHITE},
        },
    },
    "kept": {"freeze": {"encoder_except_last": 1}, "keep_outputs": KeepOutputs(), "model": {"dropout": 0.1}},
    "lora": {"adapter": replace(LORA, lora=replace(LORA.lora, dropout=0.3)), "merge": True},
}


@pytest.mark.parametrize("kind", KILLED)
def test_a_killed_training_goes_on_as_if_nothing_had_been(bench: Bench, kind: str) -> None:
    import torch

    whole, broken = f"uninterrupted-{kind}", f"killed-{kind}"
    made = given(3, **KILLED[kind])
    bench.train(whole, made, init=bench.base)
    # spawned: a forked child of a process that runs torch's threads can hang
    child = get_context("spawn").Process(target=tune_until_killed, args=(bench, broken, made, 1, 1))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    folder = bench.lab.store / broken
    assert not (folder / "model").exists() and len(curve(folder)) == 1
    # weights_only would refuse Lightning's loop state
    state = torch.load(folder / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=False)["state_dict"]
    assert all(".lora_" in name for name in state) == (kind == "lora")  # an adapter's alone, not the weights below it
    learnt = {re.sub(r"\.lora_[AB]\.default", "", name.removeprefix("whisper.")) for name in state}
    assert learnt == changed(bench, whole)
    (folder / "model" / "half").mkdir(parents=True)  # as a kill while it was saved would leave it
    bench.train(broken, made, init=bench.base)
    assert numbers(bench, broken) == numbers(bench, whole)
    assert same(tensors(bench.model(broken)), tensors(bench.model(whole)))
    assert not (folder / "model" / "half").exists()
