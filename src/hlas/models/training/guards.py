"""What ends a training that cannot go on: a loss that is not a number, a lack of memory. The batch is named."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback

from hlas.errors import UserError
from hlas.manifests.rows import Row
from hlas.models.training.checkpoints import FOLDER, last_checkpoint
from hlas.models.training.ema import ema_weights
from hlas.models.training.job import SECTIONS, Job
from hlas.models.training.loading import BrokenClip, Utterances, rows_of
from hlas.models.training.memory import lacks_memory

LAST_GOOD = "last_good"  # beside the checkpoints of a training that broke off
MEND = "mend the clip, or leave its row out of the manifest"
_SHOWN = 3  # utterances that a message names
_WORKER_GONE = ("DataLoader worker", "insufficient shared memory")


@dataclass(frozen=True)
class Place:
    """Where in the training something happened."""

    split: str  # 'train' or 'dev'
    epoch: int
    batch: int  # in the epoch, from 0
    rows: Sequence[Row]  # this process's; empty where the loader is NeMo's own

    def __str__(self) -> str:
        text = f"epoch {self.epoch + 1}, {self.split} batch {self.batch + 1}"
        if not self.rows:
            return text
        longest_s = max(row.duration for row in self.rows)
        if len(self.rows) == 1:
            return f"{text} (one clip, {longest_s:.1f} s: {Path(self.rows[0].audio_filepath).name})"
        size = f"{len(self.rows)} clips, the longest {longest_s:.1f} s, {len(self.rows) * longest_s:.0f} s with padding"
        return f"{text} ({size}: {named([Path(row.audio_filepath).name for row in self.rows])})"


def named(names: Sequence[str]) -> str:
    """The first few of many names."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


class NotANumber(Exception):
    """A loss or a weight became infinite or NaN; what to change against it."""

    def __init__(
        self, problem: str, fix: str = "lower model.optim.lr, set trainer.gradient_clip_val, or precision: '32'"
    ) -> None:
        super().__init__(problem)
        self.fix = fix


class Guard(Callback):  # type: ignore[misc]  # lightning is untyped here
    """Stops on a loss that is not a number before a checkpoint keeps what comes of it.

    Reading a loss makes the loop wait for a GPU, so there several are read at once, every `log_every_n_steps`.
    """

    def __init__(self, save: Callable[[Any, Path], None], suffix: str) -> None:
        """`save` writes a model as what the stage makes, under a name with that suffix ('' for a folder)."""
        self._save, self._name = save, LAST_GOOD + suffix
        self._at: tuple[str, int, int] | None = None  # split, epoch, batch
        self._loaders: dict[str, Any] = {}
        self._folder = Path()  # of the stage, from which the paths of its rows start
        self._losses: list[Any] = []  # of the batches up to the last one
        self._dev_losses: list[Any] = []

    def on_train_start(self, trainer: Any, model: Any) -> None:
        """Remember whose batches these are."""
        self._folder = Path(trainer.default_root_dir)
        self._loaders = {"train": trainer.train_dataloader, "dev": trainer.val_dataloaders}

    def on_train_batch_start(self, trainer: Any, model: Any, batch: Any, index: int) -> None:
        """Remember the batch."""
        self._at = ("train", trainer.current_epoch, index)

    def on_validation_batch_start(self, trainer: Any, model: Any, batch: Any, index: int, loader: int = 0) -> None:
        """Remember the batch."""
        self._at = ("dev", trainer.current_epoch, index)

    def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, batch: Any, index: int) -> None:
        """Look at the losses that are there."""
        self._losses.append(outputs["loss"].detach())
        if trainer.strategy.root_device.type == "cpu" or len(self._losses) >= trainer.log_every_n_steps:
            self._check_training()

    def on_validation_start(self, trainer: Any, model: Any) -> None:
        """Look at what the epoch left."""
        self._dev_losses = []
        self._check_training()
        self._check_weights(model)

    def on_train_epoch_end(self, trainer: Any, model: Any) -> None:
        """Look at what the epoch left, where nothing was validated."""
        self._check_training()
        self._check_weights(model)

    def on_validation_batch_end(
        self, trainer: Any, model: Any, outputs: Any, batch: Any, index: int, loader: int = 0
    ) -> None:
        """Keep the loss."""
        self._dev_losses.append(outputs["val_loss"].detach())

    def on_validation_end(self, trainer: Any, model: Any) -> None:
        """Look at the losses."""
        if self._dev_losses:
            self._check(self._dev_losses, "dev", trainer.current_epoch, 0)

    def _check_training(self) -> None:
        losses, self._losses = self._losses, []
        if losses and self._at:
            _, epoch, last = self._at
            self._check(losses, "train", epoch, last - len(losses) + 1)

    def _check_weights(self, model: Any) -> None:
        """The last step's update shows in no loss."""
        state = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
        finite = torch.stack([tensor.isfinite().all() for tensor in state.values()]).tolist()
        broken = [name for name, fine in zip(state, finite, strict=True) if not fine]
        if broken:
            raise NotANumber(f"after {self.place()} the weights are not numbers: {named(broken)}")

    def _check(self, losses: list[Any], split: str, epoch: int, first: int) -> None:
        finite = torch.stack(losses).isfinite().tolist()
        if all(finite):
            return
        at = finite.index(False)
        self._at = (split, epoch, first + at)
        problem = f"the loss is {float(losses[at])} in {self.place()}"
        if broken := self._broken_clips():
            raise NotANumber(f"{problem}; the audio itself is not made of numbers: {named(broken)}", MEND)
        raise NotANumber(problem)

    def place(self) -> Place | None:
        """The batch that the training is at."""
        if self._at is None:
            return None
        split, epoch, batch = self._at
        return Place(split, epoch, batch, rows_of(self._loaders.get(split), epoch, batch))

    def _broken_clips(self) -> list[str]:
        """Clips of the batch that hold NaN or infinite samples, augmentation included."""
        assert self._at is not None
        split, epoch, batch = self._at
        loader = self._loaders.get(split)
        if not isinstance(dataset := getattr(loader, "dataset", None), Utterances):
            return []
        keys = [(epoch, row) for row in loader.batch_sampler.batches_of(epoch)[batch]]  # type: ignore[union-attr]  # a loader of ours
        broken = [key[1] for key in keys if not bool(dataset[key][0].isfinite().all())]
        return [_found(dataset.rows[row].audio_filepath, self._folder) for row in broken]

    @contextmanager
    def explained(self, job: Job, model: Any) -> Iterator[None]:
        """Turn what ends a training in the block into a UserError that says where, and what to change."""
        try:
            yield
        except NotANumber as error:
            fix = f"{error.fix}; {self._last_good(job.folder, model)}"
            raise UserError("train", str(error), fix) from error
        except BrokenClip as error:
            problem = str(error).strip().splitlines()[-1].rpartition(f"{BrokenClip.__name__}: ")[2]
            clip, _, reason = problem.partition(": ")
            raise UserError("train", f"{_found(clip, job.folder)}: {reason}", MEND) from error
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if lacks_memory(error):
                raise self._out_of_memory(job, model) from error
            if any(text in str(error) for text in _WORKER_GONE):
                problem = f"a process that loads data has ended: {str(error).splitlines()[0]}"
                fix = "it often lacks memory: lower model.train_ds.num_workers, or give /dev/shm more"
                raise UserError("train", problem, fix) from error
            raise

    def _out_of_memory(self, job: Job, model: Any) -> UserError:
        place = self.place()
        device = "the GPU" if model.device.type == "cuda" else "the machine"
        if place is None:
            return UserError("train", f"{device} has no memory for the model", "choose a smaller one")
        problem = f"{device} is out of memory in {place}"
        section = SECTIONS[place.split]
        given = model.cfg[section]
        if len(place.rows) == 1 or (not place.rows and given.get("batch_size") == 1):  # the batch cannot be smaller
            longest = f" below the {place.rows[0].duration:.1f} s of this clip" if place.rows else ""
            fix = f"lower model.{section}.max_duration (now {given.get('max_duration')}){longest}"
            return UserError("train", problem, f"{fix}, or choose a smaller model")
        key = "batch_duration" if given.get("batch_duration") else "batch_size"
        fix = f"halve model.{section}.{key} (now {given.get(key)})"
        if place.split == "train":
            accumulated = job.trainer.get("accumulate_grad_batches", 1)
            fix += (
                f" and double trainer.accumulate_grad_batches (now {accumulated}): a step then sees as much as before"
            )
        return UserError("train", problem, fix)

    def _last_good(self, folder: Path, model: Any) -> str:
        """Save what the last epoch left, for a training that goes on from it with other settings."""
        last = last_checkpoint(folder)
        if last is None:
            return "no epoch was finished, so there is nothing to go on from"
        path = folder / FOLDER / self._name
        if model.global_rank:  # the first process saves, where it saw it too
            return f"init={path}" if path.exists() else "the first process alone saves what there is to go on from"
        # weights_only would refuse Lightning's loop state; this very stage wrote the file
        checkpoint = torch.load(last, map_location="cpu", weights_only=False)
        model.load_state_dict(ema_weights(checkpoint) or checkpoint["state_dict"])
        self._save(model, path)
        return f"init={path} starts from the weights after epoch {checkpoint['epoch'] + 1}"


def _found(path: str, folder: Path) -> str:
    """Where a row's audio is, from anywhere; `folder` is its manifest's."""
    return str((folder / path).resolve())
