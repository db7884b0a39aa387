"""Throughput of the train stage against a bare NeMo script: same model, data, machine, precision. No data needed.

Run: .venv/bin/python tools/bench/train.py [--spec models/quartznet_5x5.yaml] [--clips 512] [--seconds 4] [--epochs 9]

The bare script is what NeMo's examples do: the model from its config, NeMo's own loader, Lightning's Trainer; no
checkpoints and no logger. Both train at the same time in two threads of one process, but never side by side: they take
turns of `--turn` steps, so that whatever else slows the machine down slows both. The same callback times both, from
the end of a step to the end of the next one, the data's loading included. All clips have the same length, so that all
steps have the same work; the first epoch does not count.

Printed are the ratio of neighbouring turns (train stage to bare script, in samples/s; median and its 95 % interval by
bootstrap) and that of all time after the first epoch, in which are the validation of both and the train stage's
checkpoints, transcripts and curve.
"""

import argparse
import logging
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile
from lightning.pytorch.callbacks import Callback

from hlas.manifests.rows import Row, write_rows
from hlas.models import train_stage
from hlas.models.nemo_quiet import import_asr
from hlas.models.training.build import model_config, precision_of
from hlas.models.training.job import Fit
from hlas.params import resolve_all
from hlas.stage import Input, Stage
from hlas.tokenizers import stage as tokenizer_stage
from hlas.yamls import read_extended

RATE_HZ = 16000
LETTER_S = 0.4  # long enough for an encoder with a frame for every 80 ms
TONES_HZ = {letter: 300.0 * 1.2**i for i, letter in enumerate("abcdefgh")}
BAR = 0.98
RESAMPLES = 10_000  # of the turns, for the interval of their median
LOG = logging.getLogger("bench")


class Alternation:
    """Lets one of two threads run at a time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._turn, self._here = 0, {0, 1}

    def wait_for(self, me: int) -> None:
        """Until it is `me`'s turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn == me or self._here == {me})

    def hand_over(self, me: int) -> None:
        """Let the other one run, if it is not through."""
        with self._changed:
            self._turn = 1 - me
            self._changed.notify_all()

    def leave(self, me: int) -> None:
        """`me` is through."""
        with self._changed:
            self._here.discard(me)
            self._changed.notify_all()


@dataclass
class Times:
    """Seconds of one training."""

    turns: dict[tuple[int, int], float] = field(default_factory=dict)  # (epoch, last step) -> of a turn within it
    waits: list[float] = field(default_factory=list)  # of a turn's first step, until its batch is there
    all: float = 0.0  # of the epochs after the first, validation included


class Clock(Callback):  # type: ignore[misc]  # lightning is untyped here
    """Takes turns, and times them."""

    def __init__(self, me: int, alternation: Alternation, turn: int) -> None:
        self._me, self._alternation, self._turn = me, alternation, turn
        self.times = Times()
        self._since, self._within = 0.0, False  # when the turn began; whether no epoch has begun or ended in it

    def on_train_start(self, trainer: Any, model: Any) -> None:
        """Begin."""
        self._since = time.monotonic()

    def on_train_epoch_start(self, trainer: Any, model: Any) -> None:
        """A turn with an epoch's start in it is none of steps alone."""
        self._within = False

    def on_train_batch_start(self, trainer: Any, model: Any, batch: Any, index: int) -> None:
        """Note how long the batch was waited for."""
        if self._within and index % self._turn == 0:
            self.times.waits.append(time.monotonic() - self._since)

    def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, batch: Any, index: int) -> None:
        """Hand over where the turn is at its end."""
        import torch

        if (index + 1) % self._turn:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        took_s = time.monotonic() - self._since
        if trainer.current_epoch:
            self.times.all += took_s
            if self._within:
                self.times.turns[trainer.current_epoch, index] = took_s
        self._alternation.hand_over(self._me)
        self._alternation.wait_for(self._me)
        self._since, self._within = time.monotonic(), True


def make_data(folder: Path, clips: int, seconds: float) -> None:
    """Manifests of clips of that length, whose letters are tones; dev is an eighth."""
    draw = random.Random(1)
    for split, count in (("train", clips), ("dev", max(2, clips // 8))):
        rows = []
        for i in range(count):
            letters = draw.choices(list(TONES_HZ), k=max(2, round(seconds / LETTER_S)))
            clock = np.arange(int(LETTER_S * RATE_HZ)) / RATE_HZ
            signal = np.concatenate([0.3 * np.sin(2 * np.pi * TONES_HZ[letter] * clock) for letter in letters])
            soundfile.write(folder / f"{split}{i}.wav", signal, RATE_HZ)
            rows.append(Row(f"{split}{i}.wav", len(signal) / RATE_HZ, "".join(letters)))
        write_rows(folder / f"{split}.jsonl", rows)


def bare(folder: Path, params: train_stage.Params) -> None:
    """Train as a script of a few lines does."""
    import lightning.pytorch as lightning
    from omegaconf import OmegaConf

    labels = tokenizer_stage.read_labels(folder / "tokenizer")
    job = Fit(params.model, {}, "auto", 1, folder / "train.jsonl", folder / "dev.jsonl", labels, folder)
    lightning.seed_everything(1, verbose=False)
    trainer = lightning.Trainer(
        **{"accelerator": "auto", "devices": 1, "num_sanity_val_steps": 0, "log_every_n_steps": 10, **params.trainer},
        precision=precision_of("auto"),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
        callbacks=[],
    )
    model = import_asr().models.EncDecCTCModel(cfg=OmegaConf.create(model_config(job)), trainer=trainer)
    trainer.fit(model)


def stage(folder: Path, params: train_stage.Params) -> None:
    """Train as the stage does."""
    inputs = {split: (Input(folder / f"{split}.jsonl"),) for split in ("train", "dev")}
    inputs["tokenizer"] = (Input(folder / "tokenizer"),)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        train_stage.run(params, Stage("train", "train", Path(name), inputs, None, LOG, 1))


def compare(folder: Path, params: train_stage.Params, turn: int) -> None:
    """Train both in turns and print their ratio."""
    import lightning.pytorch as lightning

    alternation = Alternation()
    clocks = [Clock(me, alternation, turn) for me in range(2)]
    clock_of_thread = threading.local()
    plain = lightning.Trainer

    def timed(*, callbacks: list[Any], **given: Any) -> Any:
        return plain(callbacks=[*callbacks, clock_of_thread.clock], **given)

    def train(me: int, run: Callable[[Path, train_stage.Params], None]) -> None:
        clock_of_thread.clock = clocks[me]
        alternation.wait_for(me)
        try:
            run(folder, params)
        finally:
            alternation.leave(me)

    with mock.patch.object(lightning, "Trainer", timed), ThreadPoolExecutor(2) as threads:
        for through in [threads.submit(train, me, run) for me, run in enumerate((bare, stage))]:
            through.result()
    of_bare, of_stage = (clock.times for clock in clocks)
    ratios = [of_bare.turns[key] / took_s for key, took_s in of_stage.turns.items()]
    for name, times in (("bare", of_bare), ("train stage", of_stage)):
        turn_s, wait_s = statistics.median(times.turns.values()), statistics.median(times.waits)
        print(f"{name}: {turn_s:.4f} s a turn, {wait_s:.4f} s of it waiting for the first batch (medians)")
    print(
        f"{len(ratios)} pairs of turns of {turn} steps: {in_words(ratios)} (bar: {BAR}x); "
        f"all after the first epoch: {of_bare.all / of_stage.all:.3f}x"
    )


def in_words(ratios: list[float]) -> str:
    """The median and its 95 % interval."""
    draw = np.random.default_rng(1).choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(draw, axis=1), (0.025, 0.975))
    return f"{statistics.median(ratios):.3f}x ({low:.3f} to {high:.3f})"


def main() -> None:
    """Make the data and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", type=Path, default=Path("models/quartznet_mini.yaml"))
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a clip")
    parser.add_argument("--epochs", type=int, default=9, help="of each training; the first one does not count")
    parser.add_argument("--turn", type=int, default=1, help="steps that one trains before the other goes on")
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
    if args.clips // model["train_ds"]["batch_size"] < 2 * args.turn:
        parser.error("--clips: too few for two turns an epoch")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{args.spec.stem}, {args.clips} clips of {args.seconds:g} s, {model['train_ds']}, {device}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder, args.clips, args.seconds)
        sentences = {"text": (Input(folder / "train.jsonl"),)}
        tokenizer = Stage("tokenizer", "tokenizer", folder / "tokenizer", sentences, None, LOG, 1)
        tokenizer.folder.mkdir()
        tokenizer_stage.run(tokenizer_stage.Params("char"), tokenizer)
        compare(folder, train_stage.Params(model, {"max_epochs": args.epochs}, seed=1), args.turn)


if __name__ == "__main__":
    main()
