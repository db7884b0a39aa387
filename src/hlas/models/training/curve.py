"""A Lightning callback that keeps the training curve: one line an epoch in curve.jsonl and in the log.

Lightning sends the losses and dev rates to the loggers as the loop and the validation log them; what only this callback
knows, how fast the epoch was, it logs itself.
"""

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from hlas.files import write_json_lines
from hlas.models.training.throughput import Throughput, in_short, scalars


class Curve(Callback):  # type: ignore[misc]  # lightning is untyped here
    """Losses, dev WER and CER, learning rate (the highest of `optim_param_groups`), seconds, throughput of every epoch.

    Survives a resume without doubled epochs. With several processes the numbers are those of all of them, and the
    first one writes. An epoch without validation (`check_val_every_n_epoch`) has a line without dev numbers.
    """

    def __init__(self, path: Path, throughput: Throughput, log: logging.Logger) -> None:
        self.path, self.throughput, self.journal = path, throughput, log  # not `log`: Lightning binds that name itself
        self.rows = read_rows(path)  # of an interrupted run
        self._started = 0.0
        self._loss: Any = 0.0  # sum over the epoch's batches, on the device: reading it would wait for the GPU
        self._batches = 0
        self._dev: dict[str, float | None] = {}

    def on_train_start(self, trainer: Any, model: Any) -> None:
        """Drop the epochs that are done again."""
        self.rows = [row for row in self.rows if row["epoch"] < trainer.current_epoch]
        if self.rows:
            self.journal.info("goes on after epoch %d", self.rows[-1]["epoch"] + 1)

    def on_train_epoch_start(self, trainer: Any, model: Any) -> None:
        """Start the epoch's clock."""
        self._started, self._loss, self._batches, self._dev = time.monotonic(), 0.0, 0, {}

    def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, batch: Any, index: int) -> None:
        """Add the loss."""
        self._loss = self._loss + outputs["loss"].detach()
        self._batches += 1

    def on_validation_end(self, trainer: Any, model: Any) -> None:
        """Keep what the validation found; of several in an epoch, the last."""
        metrics = trainer.callback_metrics
        names = {"dev_loss": "val_loss", "dev_wer": "dev_wer", "dev_cer": "dev_cer"}
        self._dev = {own: _rounded(metrics.get(name)) for own, name in names.items()}

    def on_train_epoch_end(self, trainer: Any, model: Any) -> None:
        """Write the epoch's line; the checkpoint is saved after it, so that a kill in between costs this epoch."""
        import torch

        loss = torch.as_tensor(self._loss, device=trainer.strategy.root_device) / max(self._batches, 1)
        loss = loss * trainer.accumulate_grad_batches  # by which Lightning has divided each
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "train_loss": _rounded(trainer.strategy.reduce(loss, reduce_op="mean")),
            **{name: self._dev.get(name) for name in ("dev_loss", "dev_wer", "dev_cer")},
            "learning_rate": max(group["lr"] for group in trainer.optimizers[0].param_groups),
            **self.throughput.take(trainer),
            "seconds": round(time.monotonic() - self._started, 2),
        }
        self.rows.append(row)
        if trainer.is_global_zero:
            write_json_lines(self.path, self.rows)
        model.log_dict(scalars(row), rank_zero_only=True)  # summed up already: the same in all processes
        self.journal.info(
            "epoch %d of %s: loss %s, dev loss %s, dev WER %s, CER %s (%.1f s; %s)",
            row["epoch"] + 1,
            trainer.max_epochs,
            *(row[name] for name in ("train_loss", "dev_loss", "dev_wer", "dev_cer", "seconds")),
            in_short(row),
        )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON-lines file; none where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines]


def _rounded(value: Any) -> float | None:
    number = math.nan if value is None else float(value)
    return round(number, 5) if math.isfinite(number) else None
