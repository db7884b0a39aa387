"""Checkpoints while a model trains, when it stops early, and which weights become the model in the end.

In `checkpoints/` of the stage's folder: `epoch=…-dev_wer=…-val_loss=….ckpt`, the best `save_top_k`; `last.ckpt`, what a
killed training goes on from, written every epoch; `weights-….pt`, what `average_last` averages.
"""

import logging
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from hlas.errors import UserError
from hlas.files import atomic_bytes
from hlas.models.training.ema import EmaWeights, ema_weights
from hlas.models.training.options import Experiment, Monitor

FOLDER = "checkpoints"  # in the stage's folder, while it trains
_BEST_NAME = re.compile(r"epoch=(\d+)-dev_wer=([\d.]+|nan|inf)-val_loss=(-?[\d.]+|nan|inf)\.ckpt")
_WEIGHTS_NAME = re.compile(r"weights-(\d+)\.pt")
_METRIC = {"val_wer": "dev_wer", "val_loss": "val_loss"}  # NeMo's name -> what is measured over all processes


@dataclass(frozen=True, slots=True)
class Saved:
    """One of the best epochs' checkpoints."""

    epoch: int  # from 0
    dev_wer: float
    val_loss: float
    path: Path

    def rank(self, monitor: Monitor) -> tuple[float, float, int]:
        """Sorts by what is monitored, equal ones by the other measure, then the earlier epoch; no number comes last.

        Few dev utterances make equal WERs common, and a lower loss then tells which model is surer of its labels.
        """
        wer, loss = (math.inf if math.isnan(value) else value for value in (self.dev_wer, self.val_loss))
        return (wer, loss, self.epoch) if monitor == "val_wer" else (loss, wer, self.epoch)


def _saved(path: Path) -> Saved | None:
    """What a checkpoint's name says; None where it is not one of the best."""
    match = _BEST_NAME.fullmatch(path.name)
    return Saved(int(match[1]), float(match[2]), float(match[3]), path) if match else None


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which weights become the model."""

    weights: str  # 'best', 'ema', 'average of 5'
    dev_wers: Mapping[str, float]  # of all that there were to choose from
    best: Saved  # the best single epoch
    others: tuple[Saved, ...]  # the next best, as many as `save_top_k` keeps


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that an interrupted training in the stage's folder goes on from.

    Raises UserError where it is cut off: no write of ours leaves it so, but a copied or mended disk may.
    """
    path = folder / FOLDER / "last.ckpt"
    if path.is_file() and not zipfile.is_zipfile(path):  # as torch saves; a zip's table of contents comes last
        problem = f"{path} is not whole, and the training that was interrupted would go on from it"
        raise UserError("train", problem, "delete it, and the training starts anew")
    return path if path.is_file() else None


def checkpoint_callbacks(
    folder: Path, experiment: Experiment, log: logging.Logger, *, blank_at_first: bool, check_every: int = 1
) -> list[Callback]:
    """The callbacks that write them, and those that average and stop.

    `blank_at_first`: as a DevRates says of its models; `check_every`: epochs between validations.
    """
    options, stopping = experiment.checkpoint_callback_params, experiment.early_stopping_callback_params
    # saved after the dev WER is known: a checkpoint that is saved during validation resumes inside its epoch
    always: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = BestEpochs(
        options.monitor,
        dirpath=folder / FOLDER,
        mode=options.mode,
        save_top_k=options.save_top_k,
        every_n_epochs=check_every,
        **always,
    )
    last = ModelCheckpoint(dirpath=folder / FOLDER, filename="last", save_top_k=1, every_n_epochs=1, **always)
    callbacks: list[Callback] = [best, last]  # in this order: the last one knows of the best
    if experiment.ema.enable:
        callbacks.insert(0, EmaWeights(experiment.ema.decay))
    if experiment.average_last:
        callbacks.insert(0, LastWeights(folder / FOLDER, experiment.average_last))
    if experiment.create_early_stopping_callback:
        given = {"mode": stopping.mode, "patience": stopping.patience, "min_delta": stopping.min_delta}
        waits = blank_at_first and stopping.monitor == "val_wer"
        callbacks.insert(0, Patience(log, waits, monitor=_METRIC[stopping.monitor], **given))
    return callbacks


class BestEpochs(ModelCheckpoint):  # type: ignore[misc]  # lightning is untyped here
    """Keeps the best epochs by the rank that the model is chosen by; Lightning would keep the earlier of equal ones."""

    def __init__(self, monitor: Monitor, **options: Any) -> None:
        name = "{epoch:03d}-{dev_wer:.5f}-{val_loss:.5f}"  # as _BEST_NAME reads it
        super().__init__(filename=name, monitor=_METRIC[monitor], **options)
        self._by = monitor

    def check_monitor_top_k(self, trainer: Any, current: Any = None) -> bool:
        """Whether this epoch is to be saved; where so many are already, the worst of them has to go for it."""
        kept = [saved for path in self.best_k_models if (saved := _saved(Path(path)))]
        if current is None or len(kept) < self.save_top_k:
            return bool(super().check_monitor_top_k(trainer, current))
        worst = max(kept, key=lambda saved: saved.rank(self._by))
        now = _saved(Path(self.format_checkpoint_name(self._monitor_candidates(trainer))))
        self.kth_best_model_path = str(worst.path)
        better = now is not None and now.rank(self._by) < worst.rank(self._by)
        return bool(trainer.strategy.reduce_boolean_decision(better))  # one decision in all processes


class LastWeights(Callback):  # type: ignore[misc]  # lightning is untyped here
    """Keeps the weights of the last `count` epochs, a file each of tensors alone."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count

    def on_train_epoch_end(self, trainer: Any, model: Any) -> None:
        """Save these, drop those that are too old."""
        import torch

        if not trainer.is_global_zero:
            return
        with atomic_bytes(self.folder / f"weights-{trainer.current_epoch:03d}.pt") as file:
            torch.save(model.state_dict(), file)
        for epoch, path in _weight_files(self.folder).items():
            if epoch <= trainer.current_epoch - self.count:
                path.unlink()


def _weight_files(folder: Path) -> dict[int, Path]:
    """Epoch -> file, in the epochs' order."""
    found = {int(match[1]): path for path in folder.iterdir() if (match := _WEIGHTS_NAME.fullmatch(path.name))}
    return dict(sorted(found.items()))


class Patience(EarlyStopping):  # type: ignore[misc]  # lightning is untyped here
    """Early stopping that says so in the log, and that a resume after the stop does not undo.

    With `waits` it counts from the first WER below 1 on: a CTC model hears nothing but blanks for its first epochs.
    """

    def __init__(self, log: logging.Logger, waits: bool, **options: Any) -> None:
        super().__init__(**options, check_on_train_epoch_end=False)  # where a validation was, and only there
        self.journal = log
        self._heard = not waits  # from when on a validation counts

    def on_train_start(self, trainer: Any, model: Any) -> None:
        """Stop again what had stopped before it was killed."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True

    def on_validation_end(self, trainer: Any, model: Any) -> None:
        """Look whether it became better."""
        if not self._heard and float(trainer.callback_metrics["dev_wer"]) >= 1:
            return
        self._heard = True
        super().on_validation_end(trainer, model)
        at_least = trainer.min_epochs or 1  # before them Lightning trains on, whatever is said
        if trainer.should_stop and self.wait_count >= self.patience and trainer.current_epoch + 1 >= at_least:
            self.journal.info("stops early: no better %s for %d validations", self.monitor, self.wait_count)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {**super().state_dict(), "heard": self._heard}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What a resumed training goes on from."""
        super().load_state_dict(state)
        self._heard = state["heard"]


def best_checkpoints(folder: Path, monitor: Monitor) -> list[Saved]:
    """The saved epochs, best first, by their files' names: Lightning forgets them when a resumed folder moves."""
    found = [saved for path in (folder / FOLDER).glob("*.ckpt") if (saved := _saved(path))]
    return sorted(found, key=lambda saved: saved.rank(monitor))


def weights_of(saved: Saved) -> dict[str, Any]:
    """The weights that were validated in that epoch: the moving average where there was one."""
    import torch

    # weights_only would refuse Lightning's loop state and NeMo's configuration; this very stage wrote the file
    checkpoint = torch.load(saved.path, map_location="cpu", weights_only=False)
    averaged = ema_weights(checkpoint)
    return dict(checkpoint["state_dict"]) if averaged is None else averaged


def average(paths: Sequence[Path]) -> dict[str, Any]:
    """The mean of the weights in the files, summed in float64 so that equal ones stay what they are.

    The running means and variances of batch normalisation are averaged like the weights: each belongs to its epoch's
    weights, and the last epoch's alone fit the average less well. Whole numbers (batches counted) are the last file's.
    """
    import torch

    states = [torch.load(path, map_location="cpu", mmap=True, weights_only=True) for path in paths]
    return {
        name: sum(state[name].double() for state in states).div(len(states)).to(last.dtype)
        if last.is_floating_point()
        else last.clone()
        for name, last in states[-1].items()
    }


def choose_weights(trainer: Any, model: Any, folder: Path, experiment: Experiment, log: logging.Logger) -> Chosen:
    """Put the weights into the model that it is to be saved with; all processes call it after the training.

    An average of the last epochs is measured by one more validation and taken where it is no worse than the best
    epoch by what is monitored. UserError where no epoch was validated.
    """
    monitor = experiment.checkpoint_callback_params.monitor
    saved = best_checkpoints(folder, monitor)
    if not saved:
        fix = "give it at least one whole epoch (trainer.max_epochs, check_val_every_n_epoch)"
        raise UserError("train", "no epoch was validated", fix)
    best, *others = saved
    name = "ema" if experiment.ema.enable else "best"
    dev_wers = {name: best.dev_wer}
    if experiment.average_last:
        paths = list(_weight_files(folder / FOLDER).values())[-experiment.average_last :]
        model.load_state_dict(average(paths))
        mean = _validated(trainer, model, best)
        averaged = f"average of {len(paths)}"
        dev_wers[averaged] = mean.dev_wer
        log.info(
            "dev WER %.4f with the %s epochs' weights, %.4f with the best one's", mean.dev_wer, averaged, best.dev_wer
        )
        if mean.rank(monitor)[0] <= best.rank(monitor)[0]:
            name = averaged
    if name in ("best", "ema"):
        model.load_state_dict(weights_of(best))
    return Chosen(name, dev_wers, best, tuple(others))


def _validated(trainer: Any, model: Any, like: Saved) -> Saved:
    """What the model's present weights reach on dev, to as many digits as file names have."""
    from dataclasses import replace

    loggers, trainer.loggers = trainer.loggers, []  # no further point in the curves: this is no epoch
    try:
        (metrics,) = trainer.validate(model, verbose=False)
    except SystemExit as error:  # how Lightning answers SIGTERM and Ctrl-C; with status 0, as if all were done
        raise KeyboardInterrupt from error
    trainer.loggers = loggers
    return replace(like, dev_wer=round(metrics["dev_wer"], 5), val_loss=round(metrics["val_loss"], 5))
