"""Throughput of the train stage against a bare NeMo script: same model, data, machine, precision. No data needed.

Run: .venv/bin/python tools/bench/train.py [--spec models/quartznet_5x5.yaml] [--clips 512] [--seconds 4] [--epochs 4]

The bare script is what NeMo's examples do: the model from its config, NeMo's own loader, Lightning's Trainer; no
checkpoints, no logger, one callback that looks at the clock. Both train in turns in one process, each round the other
one first. "samples/s" is the median over the epochs after the first, without validation; "whole epochs" has the
validation in both and, in the train stage, its checkpoints and transcripts.
"""

import argparse
import logging
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lightning.pytorch.callbacks import Callback

from hlas.manifests.rows import Row, write_rows
from hlas.models import train_stage
from hlas.models.nemo_quiet import import_asr
from hlas.models.training.build import model_config, precision_of
from hlas.models.training.curve import read_rows
from hlas.models.training.job import Fit
from hlas.models.training.throughput import speed
from hlas.params import resolve_all
from hlas.stage import Input, Stage
from hlas.tokenizers import stage as tokenizer_stage
from hlas.yamls import read_extended

RATE_HZ = 16000
LETTER_S = 0.4  # long enough for an encoder with a frame for every 80 ms
TONES_HZ = {letter: 300.0 * 1.2**i for i, letter in enumerate("abcdefgh")}
BAR = 0.98
LOG = logging.getLogger("bench")


@dataclass(frozen=True)
class Speed:
    """Of one training."""

    samples_per_s: float
    epoch_s: float  # median, validation included
    wait_share: float | None = None  # of the time of training, spent waiting for data


class Clock(Callback):  # type: ignore[misc]  # lightning is untyped here
    """Seconds of every epoch until its validation, and to its end."""

    def __init__(self) -> None:
        self.train_s: list[float] = []
        self.epoch_s: list[float] = []
        self._started = 0.0

    def on_train_epoch_start(self, trainer: Any, model: Any) -> None:
        """Start."""
        self._started = time.monotonic()

    def on_validation_start(self, trainer: Any, model: Any) -> None:
        """Note what the training took."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.train_s.append(time.monotonic() - self._started)

    def on_train_epoch_end(self, trainer: Any, model: Any) -> None:
        """Note what all took."""
        self.epoch_s.append(time.monotonic() - self._started)


def make_data(folder: Path, clips: int, seconds: float) -> None:
    """Manifests of clips of half to one and a half times that length, whose letters are tones; dev is an eighth."""
    draw = random.Random(1)
    for split, count in (("train", clips), ("dev", max(2, clips // 8))):
        rows = []
        for i in range(count):
            letters = draw.choices(list(TONES_HZ), k=max(2, round(seconds * draw.uniform(0.5, 1.5) / LETTER_S)))
            clock = np.arange(int(LETTER_S * RATE_HZ)) / RATE_HZ
            signal = np.concatenate([0.3 * np.sin(2 * np.pi * TONES_HZ[letter] * clock) for letter in letters])
            soundfile.write(folder / f"{split}{i}.wav", signal, RATE_HZ)
            rows.append(Row(f"{split}{i}.wav", len(signal) / RATE_HZ, "".join(letters)))
        write_rows(folder / f"{split}.jsonl", rows)


def bare(folder: Path, params: train_stage.Params, clips: int) -> Speed:
    """What a script of a few lines reaches."""
    import lightning.pytorch as lightning
    from omegaconf import OmegaConf

    labels = tokenizer_stage.read_labels(folder / "tokenizer")
    job = Fit(params.model, {}, "auto", 1, folder / "train.jsonl", folder / "dev.jsonl", labels, folder)
    clock = Clock()
    lightning.seed_everything(1, verbose=False)
    trainer = lightning.Trainer(
        **{"accelerator": "auto", "devices": 1, "num_sanity_val_steps": 0, "log_every_n_steps": 10, **params.trainer},
        precision=precision_of("auto"),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
        callbacks=[clock],
    )
    model = import_asr().models.EncDecCTCModel(cfg=OmegaConf.create(model_config(job)), trainer=trainer)
    trainer.fit(model)
    return Speed(clips / statistics.median(clock.train_s[1:]), statistics.median(clock.epoch_s[1:]))


def stage(folder: Path, params: train_stage.Params, clips: int) -> Speed:
    """What the train stage reaches."""
    inputs = {split: (Input(folder / f"{split}.jsonl"),) for split in ("train", "dev")}
    inputs["tokenizer"] = (Input(folder / "tokenizer"),)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        train_stage.run(params, Stage("train", "train", Path(name), inputs, None, LOG, 1))
        rows = read_rows(Path(name) / "curve.jsonl")[1:]
    measured = speed(rows)
    assert measured.samples_per_s is not None
    return Speed(measured.samples_per_s, statistics.median(row["seconds"] for row in rows), measured.wait_share)


def compare(folder: Path, params: train_stage.Params, clips: int, rounds: int) -> None:
    """Train both in turns and print their ratio."""
    ratios, whole, waits = [], [], []
    for number in range(rounds):
        order = (bare, stage) if number % 2 == 0 else (stage, bare)
        made = {run.__name__: run(folder, params, clips) for run in order}
        ratios.append(made["stage"].samples_per_s / made["bare"].samples_per_s)
        whole.append(made["bare"].epoch_s / made["stage"].epoch_s)
        waits.append(made["stage"].wait_share or 0.0)
        print(
            f"  round {number + 1}: bare {made['bare'].samples_per_s:8.2f} samples/s, train stage "
            f"{made['stage'].samples_per_s:8.2f}: {ratios[-1]:.3f}x, whole epochs {whole[-1]:.3f}x",
            flush=True,
        )
    print(
        f"median {statistics.median(ratios):.3f}x (bar: {BAR}x), whole epochs {statistics.median(whole):.3f}x, "
        f"waiting for data {100 * statistics.median(waits):.2f} % of the training's time"
    )


def main() -> None:
    """Make the data and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", type=Path, default=Path("models/quartznet_mini.yaml"))
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=4.0, help="mean length of a clip")
    parser.add_argument("--epochs", type=int, default=4, help="of each training; the first one does not count")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, help="in place of the spec's")
    parser.add_argument("--workers", type=int, help="processes that load data, in place of the spec's")
    args = parser.parse_args()
    if args.epochs < 2:
        parser.error("--epochs: at least 2, as the first one does not count")
    import torch

    import_asr()
    torch.set_float32_matmul_precision("high")
    model = resolve_all(read_extended(args.spec).data, {})[0]["model"]
    for key, value in (("batch_size", args.batch_size), ("num_workers", args.workers)):
        if value is not None:
            model["train_ds"][key] = value
    model["train_ds"].setdefault("num_workers", 0)
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    print(f"{args.spec.stem}, {args.clips} clips of {args.seconds:g} s, {model['train_ds']}, {device}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder, args.clips, args.seconds)
        text = {"text": (Input(folder / "train.jsonl"),)}
        tokenizer = Stage("tokenizer", "tokenizer", folder / "tokenizer", text, None, LOG, 1)
        tokenizer.folder.mkdir()
        tokenizer_stage.run(tokenizer_stage.Params("char"), tokenizer)
        compare(folder, train_stage.Params(model, {"max_epochs": args.epochs}, seed=1), args.clips, args.rounds)


if __name__ == "__main__":
    main()
