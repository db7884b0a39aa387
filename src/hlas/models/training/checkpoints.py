"""Checkpoints while a model trains, and which weights become the model in the end."""

import re
from pathlib import Path
from typing import Any

from hlas.models.training.options import MONITOR, Experiment

FOLDER = "checkpoints"  # in the stage's folder, while it trains
_BEST_NAME = re.compile(r"epoch=(\d+)-val_wer=(\d+\.\d+)\.ckpt")


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that an interrupted training in the stage's folder goes on from."""
    path = folder / FOLDER / "last.ckpt"
    return path if path.is_file() else None


def checkpoint_callbacks(folder: Path, experiment: Experiment) -> list[Any]:
    """Lightning's callbacks that write them."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    best = ModelCheckpoint(
        dirpath=folder / FOLDER,
        filename="{epoch:03d}-{val_wer:.5f}",
        monitor=MONITOR,
        mode="min",
        save_top_k=experiment.checkpoint_callback_params.save_top_k,
        save_last=True,
        save_on_train_epoch_end=True,  # after the dev WER; one saved during validation resumes inside its epoch
    )
    return [best]


def best_checkpoint(folder: Path) -> tuple[float, int, Path] | None:
    """Dev WER, epoch and file of the best checkpoint, by its name: Lightning forgets it when a resumed folder moves."""
    matches = ((_BEST_NAME.fullmatch(path.name), path) for path in (folder / FOLDER).glob("*.ckpt"))
    return min(((float(match[2]), int(match[1]), path) for match, path in matches if match), default=None)
