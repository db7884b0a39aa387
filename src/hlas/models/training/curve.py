"""A Lightning callback that keeps the training curve: one line an epoch in curve.jsonl and in the log."""

import json
import logging
import time
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from hlas.files import write_json_lines


class Curve(Callback):  # type: ignore[misc]  # lightning is untyped here
    """Losses, dev WER, learning rate and seconds of every epoch; survives a resume without doubled epochs."""

    def __init__(self, path: Path, log: logging.Logger) -> None:
        self.path, self.journal = path, log  # not `log`: Lightning binds that name itself
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]  # of an interrupted run
        self._started = 0.0
        self._losses: list[float] = []

    def on_train_start(self, trainer: Any, model: Any) -> None:
        """Drop the epochs that are done again."""
        self.rows = [row for row in self.rows if row["epoch"] < trainer.current_epoch]
        if self.rows:
            self.journal.info("goes on after epoch %d", self.rows[-1]["epoch"] + 1)

    def on_train_epoch_start(self, trainer: Any, model: Any) -> None:
        """Start the epoch's clock."""
        self._started, self._losses = time.monotonic(), []

    def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, batch: Any, index: int) -> None:
        """Keep the loss."""
        self._losses.append(float(outputs["loss"].detach()))

    def on_validation_end(self, trainer: Any, model: Any) -> None:
        """Write the epoch's line once its dev WER is known."""
        metrics = trainer.callback_metrics
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "train_loss": _rounded(sum(self._losses) / len(self._losses) if self._losses else None),
            "dev_loss": _rounded(metrics.get("val_loss")),
            "dev_wer": _rounded(metrics.get("val_wer")),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(time.monotonic() - self._started, 2),
        }
        self.rows.append(row)
        write_json_lines(self.path, self.rows)
        self.journal.info(
            "epoch %d of %s: loss %s, dev loss %s, dev WER %s (%.1f s)",
            row["epoch"] + 1,
            trainer.max_epochs,
            row["train_loss"],
            row["dev_loss"],
            row["dev_wer"],
            row["seconds"],
        )


def _rounded(value: Any) -> float | None:
    number = None if value is None else float(value)
    return None if number is None or number != number or abs(number) == float("inf") else round(number, 5)
