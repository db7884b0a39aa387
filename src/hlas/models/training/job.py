"""All that decides a training, and what came of it: the border between the train stage and its parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hlas.models.freezing import Freeze
from hlas.models.training.options import Experiment, KeepOutputs
from hlas.tokenizers.stage import Labels

SECTIONS: Mapping[str, str] = {"train": "train_ds", "dev": "validation_ds"}  # split -> its keys in `model`


class Job(Protocol):
    """What every training has, whatever it trains."""

    @property
    def model(self) -> Mapping[str, Any]:
        """`model` of the YAML."""

    @property
    def trainer(self) -> Mapping[str, Any]:
        """Lightning's `trainer`."""

    @property
    def precision(self) -> str:
        """Lightning's word, or 'auto'."""

    @property
    def seed(self) -> int:
        """What order, augmentation and dropout follow from."""

    @property
    def folder(self) -> Path:
        """Of the stage."""

    @property
    def experiment(self) -> Experiment:
        """`exp_manager` of the YAML."""


@dataclass(frozen=True)
class Start:
    """The weights that a training starts from; at most one of `model` and `pretrained` is given."""

    model: Path | None = None  # a .nemo file
    pretrained: str = ""  # a NeMo model name
    keep_rows: bool = False  # with other labels, the decoder's rows of the labels that both know are kept


@dataclass(frozen=True)
class Fit:
    """Everything that decides a training."""

    model: Mapping[str, Any]  # NeMo's `model`
    trainer: Mapping[str, Any]  # Lightning's `trainer`
    precision: str
    seed: int
    train: Path
    dev: Path
    labels: Labels
    folder: Path  # of the stage
    experiment: Experiment = field(default_factory=Experiment)
    start: Start = field(default_factory=Start)
    freeze: Freeze = "none"
    freeze_batch_norm: bool = False
    unfreeze: Mapping[int, Freeze] = field(default_factory=dict)  # epoch -> what is frozen from then on
    keep_outputs: KeepOutputs | None = None
    sets: Mapping[str, Path] = field(default_factory=dict)  # manifests of 'noise' and 'rooms' to mix in


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What came of a training, whatever was trained."""

    parameters: int  # all of them
    trainable: int  # those that some epoch changes
    epochs: int
    steps: int
    best_dev_wer: float
    best_epoch: int
    weights: str  # which were saved: 'best', 'ema', 'average of 5'
    dev_wers: Mapping[str, float]  # of all that there were to choose from
    device: str
    precision: str
    rejects: Mapping[str, Mapping[str, int]]  # split -> reason -> utterances that it was not trained on
    peak_gpu_gib: float | None
    samples_per_s: float | None  # median over the epochs
    wait_share: float | None  # of the training's time, spent waiting for data


@dataclass(frozen=True, kw_only=True, slots=True)
class FitResult(Trained):
    """The same of a CTC model."""

    decoder: str  # 'new', 'kept', or 'kept 31 of 34 rows' from the model that it started from
    processes: int
