"""What the tests of training share: a language of tones, its manifests and tokenizers, and a tiny QuartzNet."""

import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hlas.manifests.rows import Row, write_rows
from hlas.models import train_stage
from hlas.models.training.job import Fit
from hlas.params import resolve_all
from hlas.paths import project_root
from hlas.stage import Input, Stage, Summary
from hlas.tokenizers import stage as tokenizer_stage
from hlas.yamls import read_extended

RATE = 16000
TONES_HZ = {"a": 400.0, "b": 900.0, "c": 1600.0, " ": 0.0}
LOG = logging.getLogger("hlas")


def spoken(text: str) -> np.ndarray:
    """Each letter is 0.12 s of its tone, then 0.04 s of silence."""
    rng = np.random.default_rng(len(text))
    parts = []
    for letter in text:
        time = np.arange(int(0.12 * RATE)) / RATE
        parts += [0.3 * np.sin(2 * np.pi * TONES_HZ[letter] * time), np.zeros(int(0.04 * RATE))]
    signal = np.concatenate(parts)
    return (signal + 0.003 * rng.standard_normal(len(signal))).astype(np.float32)


def write_split(folder: Path, split: str, texts: list[str]) -> None:
    rows = []
    for i, text in enumerate(texts):
        soundfile.write(folder / f"{split}{i}.wav", spoken(text), RATE)
        rows.append(Row(f"{split}{i}.wav", len(spoken(text)) / RATE, text))
    write_rows(folder / f"{split}.jsonl", rows)


@dataclass(frozen=True)
class Lab:
    """A store with one corpus and tokenizers."""

    store: Path

    def stage(self, name: str, **inputs: Input | list[Input]) -> Stage:
        folder = self.store / name
        folder.mkdir(exist_ok=True)
        listed = {k: tuple(v) if isinstance(v, list) else (v,) for k, v in inputs.items()}
        return Stage(name, name.partition("-")[0], folder, listed, None, LOG, workers=1)

    def split(self, name: str) -> Input:
        return Input(self.store / "manifests" / f"{name}.jsonl", "manifests", name)

    def tokenizer(self, params: tokenizer_stage.Params) -> Input:
        stage = self.stage(f"tokenizer-{params.type}", text=[self.split("train")])
        tokenizer_stage.run(params, stage)
        return Input(stage.folder, "tokenizer")

    def train(self, name: str, params: train_stage.Params, tokenizer: Input, init: Path | None = None) -> Summary:
        inputs: dict[str, Any] = {"train": self.split("train"), "dev": self.split("dev"), "tokenizer": tokenizer}
        if init:
            inputs["init"] = Input(init)
        return train_stage.run(params, self.stage(name, **inputs))


MORE_DEV = ("ba ca", "abc", "c", "ab ab ab", "cab", "a c b a", "bb")  # where two would give too few different WERs


def make_lab(store: Path, dev: Sequence[str] = ("ba ca", "abc")) -> Lab:
    """A store whose corpus has eight utterances to train on, and dev ones."""
    (store / "manifests").mkdir()
    write_split(store / "manifests", "train", ["ab ca", "ba", "c ab", "bca a", "cab ba", "a b c", "abcab", "ca ba"])
    write_split(store / "manifests", "dev", list(dev))
    return Lab(store)


def params(epochs: int = 2, **trainer: Any) -> train_stage.Params:
    """quartznet_mini with 16 channels and two blocks."""
    data, _ = resolve_all(read_extended(project_root() / "models/quartznet_mini.yaml").data, {})
    model = data["model"]
    blocks = [model["encoder"]["jasper"][i] | {"filters": 16, "kernel": [5]} for i in (0, 1, 2)]
    model["encoder"]["jasper"] = blocks
    model["decoder"]["feat_in"] = 16
    model["train_ds"]["batch_size"] = 4
    return train_stage.Params(model, {"max_epochs": epochs, **trainer}, seed=3)


def conformer(epochs: int = 2, **trainer: Any) -> train_stage.Params:
    """conformer_ctc_m with two blocks of 16 channels."""
    data, _ = resolve_all(read_extended(project_root() / "models/conformer_ctc_m.yaml").data, {})
    model = data["model"]
    model["encoder"] |= {"n_layers": 2, "d_model": 16, "n_heads": 2, "conv_kernel_size": 5}
    model["decoder"]["feat_in"] = model["optim"]["sched"]["d_model"] = 16
    model["train_ds"] |= {"batch_size": 4, "num_workers": 0}
    model["optim"]["sched"]["warmup_steps"] = 2
    return train_stage.Params(model, {"max_epochs": epochs, **trainer}, seed=3)


def fit_job(lab: Lab, given: train_stage.Params, tokens: Sequence[str] = (" ", "a", "b", "c")) -> Fit:
    """All that decides a training with those characters as labels, to build a model from without the stage."""
    train, dev = (lab.split(name).path for name in ("train", "dev"))
    labels = tokenizer_stage.Labels(tuple(tokens), "char", lab.store)
    return Fit(given.model, given.trainer, "32", given.seed, train, dev, labels, lab.store)


def curve(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()]


def write_whisper(folder: Path, layers: int = 4) -> None:
    """A transformers folder of a Whisper of tiny's width with random weights, as the train stage starts from one."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    heads = {"encoder_attention_heads": 6, "decoder_attention_heads": 6}
    ends = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0}
    shape = {"vocab_size": 20, "d_model": 384, "encoder_layers": layers, "decoder_layers": 4}
    torch.manual_seed(2)
    config = WhisperConfig(**shape, **heads, **ends, encoder_ffn_dim=1536, decoder_ffn_dim=32)
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    for name in ("tokenizer.json", "preprocessor_config.json"):
        (folder / name).write_text("{}", encoding="utf-8")


@contextmanager
def killed_in(epoch: int) -> Iterator[None]:
    """Break the training inside at the end of that epoch, counted from 1, before its checkpoint."""

    class Kill(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith(f"epoch {epoch} of"):
                raise MemoryError("killed")

    kill, level = Kill(), LOG.level
    LOG.setLevel(logging.INFO)
    LOG.addHandler(kill)
    try:
        with pytest.raises(MemoryError, match="killed"):
            yield
    finally:
        LOG.removeHandler(kill)
        LOG.setLevel(level)


def train_until_killed(
    lab: Lab, name: str, given: train_stage.Params, tokenizer: Input, epoch: int, batch: int
) -> None:
    """Train in a process of its own, which is killed as that batch of that epoch begins, both counted from 0."""
    from hlas.models.training.guards import Guard

    def start(self: Guard, trainer: Any, model: Any, data: Any, index: int) -> None:
        if (trainer.current_epoch, index) == (epoch, batch):
            os.kill(os.getpid(), signal.SIGKILL)

    Guard.on_train_batch_start = start  # type: ignore[method-assign]  # in a process that is about to die
    multiprocessing.set_start_method("fork", force=True)  # a spawned process would spawn the loader's workers, too
    lab.train(name, given, tokenizer)
