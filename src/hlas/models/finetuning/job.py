"""All that decides a fine-tuning, and what came of it: the border between the stage and its parts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hlas.models.finetuning.options import Adapter
from hlas.models.freezing import Freeze
from hlas.models.training.job import Trained
from hlas.models.training.options import Experiment, KeepOutputs


@dataclass(frozen=True)
class Tuning:
    """Everything that decides a fine-tuning; a `Job`."""

    model: Mapping[str, Any]  # hlas.models.finetuning.options.Model as plain values
    trainer: Mapping[str, Any]  # Lightning's `trainer`
    precision: str
    seed: int
    train: Path
    dev: Path
    language: str  # Whisper's code
    normalise: Callable[[str], str]  # of the recipe's language
    folder: Path  # of the stage
    init: Path | None = None  # a folder of a Whisper; None = the size's own weights
    init_source: str = ""  # where it comes from, for the record
    experiment: Experiment = field(default_factory=Experiment)
    freeze: Freeze = "none"
    adapter: Adapter | None = None
    merge: bool = False  # whether an adapter is saved inside the whole model
    keep_outputs: KeepOutputs | None = None
    sets: Mapping[str, Path] = field(default_factory=dict)  # manifests of 'noise' and 'rooms' to mix in


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningResult(Trained):
    """What came of it."""

    saved: str  # 'whole model', 'adapter', 'adapter, merged'
    size: str  # of Whisper
    base: str  # where the weights that it started from came from
    base_sha256: str
