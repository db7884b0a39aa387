"""Keys of a Whisper fine-tuning YAML; only plain values, imported by every plan.

The sections have the names of the CTC models' (`model.train_ds`, `model.optim`, `trainer`, `exp_manager`), and the same
code reads them.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from hlas.errors import did_you_mean
from hlas.models.augmentor import check_augmentor
from hlas.models.training.known_keys import check_dataset
from hlas.models.training.optim_keys import check_optim
from hlas.models.whisper_languages import CODES, unknown_code
from hlas.models.whisper_sizes import SIZES

# transformers' names of the linear layers of a Whisper: of attention (q, k, v, out) and of the feed-forward part
LINEAR = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
SPEC_AUGMENT = ("freq_masks", "freq_width", "time_masks", "time_width", "rect_masks", "rect_time", "rect_freq")


@dataclass(frozen=True)
class Lora:
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685): W + alpha / r · B · A, of which only A and B learn."""

    r: int = 32
    alpha: int = 64
    dropout: float = 0.05
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")

    def __post_init__(self) -> None:
        """Check the ranges and names."""
        if self.r < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ValueError("adapter.lora: r is at least 1, alpha above 0, dropout from 0 to below 1")
        if not self.target_modules:
            raise ValueError(f"adapter.lora.target_modules is empty; there are: {', '.join(LINEAR)}")
        for name in self.target_modules:
            if name not in LINEAR:
                raise ValueError(f"adapter.lora.target_modules: no layers '{name}'; {did_you_mean(name, LINEAR)}")


@dataclass(frozen=True)
class Adapter:
    """A small trained part beside frozen weights."""

    lora: Lora = field(default_factory=Lora)


@dataclass(frozen=True)
class Model:
    """`model` of the YAML."""

    train_ds: dict[str, Any]
    optim: dict[str, Any]
    validation_ds: dict[str, Any] = field(default_factory=dict)
    size: str = ""  # of the weights to start from; '' = that of the stage's input `init`, without one base
    language: str = ""  # as in the transcribe stage: Whisper's code; '' = the recipe language's own
    transcript: Literal["raw_text", "text"] = "raw_text"  # raw: with capitals and punctuation, as Whisper writes
    padding_s: float | None = None  # silence after a clip in its window; none: up to 30 s, as in the transcribe stage
    dropout: float = 0.0  # Whisper was trained without
    label_smoothing: float = 0.0
    gradient_checkpointing: bool = False  # less memory for a third more time
    spec_augment: dict[str, Any] | None = None  # arguments of NeMo's SpectrogramAugmentation, in frames of 10 ms
    sample_rate: Literal[16000] = 16000

    def __post_init__(self) -> None:
        """Check names, ranges and the keys of the sections."""
        if self.size not in ("", *SIZES):
            raise ValueError(f"model.size: no Whisper '{self.size}'; {did_you_mean(self.size, SIZES)}")
        if self.language not in ("", *CODES):
            raise ValueError(f"model.language: {unknown_code(self.language)}")
        if self.padding_s is not None and not 0 <= self.padding_s <= 30:
            raise ValueError("model.padding_s is from 0 to 30, or null for Whisper's own windows of 30 s")
        if not 0 <= self.dropout < 1 or not 0 <= self.label_smoothing < 1:
            raise ValueError("model.dropout and model.label_smoothing are from 0 to below 1")
        for key in self.spec_augment or {}:
            if key not in SPEC_AUGMENT:
                raise ValueError(f"model.spec_augment.{key}: no such key; {did_you_mean(key, SPEC_AUGMENT)}")
        for name, section in (("train_ds", self.train_ds), ("validation_ds", self.validation_ds)):
            check_dataset(f"model.{name}", section)
        check_augmentor(self.train_ds)
        check_optim(self.optim)
