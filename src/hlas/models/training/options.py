"""Keys of a model YAML beyond NeMo's `model` and Lightning's `trainer`; only plain values, imported by every plan."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Monitor = Literal["val_wer", "val_loss"]  # NeMo's names of what is measured on dev

MAX_SEED = 2**32 - 1  # of numpy's generators
_KEPT_KWARGS = {"save_dir", "dir"}  # of a logger, which the stage decides


@dataclass(frozen=True)
class CheckpointOptions:
    """NeMo's `exp_manager.checkpoint_callback_params`, as far as hlas knows them."""

    monitor: Monitor = "val_wer"
    mode: Literal["min"] = "min"
    save_top_k: int = 1  # the best becomes model.nemo, the others stay beside it as model.epoch_012.nemo

    def __post_init__(self) -> None:
        """Check the range."""
        if self.save_top_k < 1:
            raise ValueError("save_top_k is at least 1: one checkpoint becomes the model")


@dataclass(frozen=True)
class EarlyStopping:
    """NeMo's `exp_manager.early_stopping_callback_params`."""

    monitor: Monitor = "val_wer"
    mode: Literal["min"] = "min"
    patience: int = 10  # validations without an improvement of at least min_delta
    min_delta: float = 0.001

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.patience < 1 or self.min_delta < 0:
            raise ValueError("patience is at least 1, min_delta at least 0")


@dataclass(frozen=True)
class Ema:
    """NeMo's `exp_manager.ema`: an exponential moving average of the weights, which is what is validated and saved."""

    enable: bool = False
    decay: float = 0.999

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 < self.decay < 1:
            raise ValueError("ema.decay lies between 0 and 1")


@dataclass(frozen=True)
class Experiment:
    """NeMo's `exp_manager`, as far as it is not the runner's business (folders, names, resuming)."""

    checkpoint_callback_params: CheckpointOptions = field(default_factory=CheckpointOptions)
    create_early_stopping_callback: bool = False
    early_stopping_callback_params: EarlyStopping = field(default_factory=EarlyStopping)
    ema: Ema = field(default_factory=Ema)
    average_last: int = 0  # epochs whose mean weights are saved if they are no worse on dev than the best; not NeMo's
    samples: int = 8  # dev utterances whose transcripts are kept every epoch; not NeMo's
    create_tensorboard_logger: bool = True
    create_wandb_logger: bool = False
    wandb_logger_kwargs: dict[str, Any] = field(default_factory=dict)
    create_mlflow_logger: bool = False
    mlflow_logger_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what excludes each other."""
        if self.average_last < 0 or self.samples < 0:
            raise ValueError("average_last and samples are not negative")
        for logger in ("wandb", "mlflow"):
            if kept := _KEPT_KWARGS & set(getattr(self, f"{logger}_logger_kwargs")):
                raise ValueError(f"{logger}_logger_kwargs.{min(kept)}: the logger writes into the stage's own folder")
        if self.average_last and self.ema.enable:
            raise ValueError("average_last and ema.enable are two averages of the same weights: choose one")


def check_seed(seed: int) -> None:
    """Raise ValueError where numpy cannot start from it, and Lightning would from 0 without a word."""
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed {seed} is not from 0 to {MAX_SEED}")


HIDDEN = ("freq_masks", "rect_masks")  # of SpectrogramAugmentation: what masks bands of features


def check_masks(spec_augment: Mapping[str, Any] | None) -> None:
    """Raise ValueError where kept outputs, which are hidden values, would be masked as if they had bands."""
    for key in HIDDEN:
        if (spec_augment or {}).get(key):
            fix = "set it to 0, or keep_outputs: null"
            raise ValueError(f"model.spec_augment.{key}: kept outputs have no bands; {fix}")


@dataclass(frozen=True)
class KeepOutputs:
    """Whether the outputs of what is frozen are computed once and kept instead of in every epoch."""

    speeds: tuple[float, ...] = (1.0,)  # each clip is kept at each of these speeds; every epoch draws one

    def __post_init__(self) -> None:
        """Check the range."""
        if not self.speeds or min(self.speeds) < 0.5 or max(self.speeds) > 2:
            raise ValueError("keep_outputs.speeds are one or more factors from 0.5 to 2")
