"""The weights that a fine-tuning starts from: a size's own, a folder's, or a base with adapters to merge."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.files import sha256_file
from hlas.models.finetuning.adapters import Base, base_of, chain, check_base, merge
from hlas.models.whisper_checkpoint import WEIGHTS, WhisperCheckpoint, whisper_checkpoint
from hlas.models.whisper_file import check_safetensors
from hlas.models.whisper_folders import folder_kind


@dataclass(frozen=True, slots=True)
class Found:
    """Where the weights are."""

    folder: Path  # of transformers: config, weights, tokenizer, feature extractor
    source: str  # for the record, without a path of this machine
    sha256: str  # of its model.safetensors
    below: tuple[Path, ...] = ()  # adapters to merge into them, in order
    base: Base | None = None  # what an adapter can be said to belong to; None: only a whole model can be saved


def find(size: str, init: Path | None, source: str) -> Found:
    """The weights of a size, or those that the input `init` leads to. UserError where they are none, or damaged."""
    if init is None:
        return _of_size(whisper_checkpoint(size))
    kind = folder_kind(init)
    if kind == "ctranslate2":
        raise UserError(str(init), "a CTranslate2 folder, which cannot be trained", "name a Hugging Face folder")
    if kind == "adapter":
        return on_base(init, source)
    check_safetensors(init / WEIGHTS)
    return Found(init, source or "a folder that the user gave", sha256_file(init / WEIGHTS))


def on_base(folder: Path, source: str) -> Found:
    """The base that an adapter's folder asks for, and the adapters to merge. UserError where it is another one."""
    checkpoint = whisper_checkpoint(base_of(folder).size)
    check_base(folder, checkpoint.sha256)
    source = source or "an adapter that the user gave"
    return replace(_of_size(checkpoint), source=source, below=tuple(chain(folder)))


def _of_size(checkpoint: WhisperCheckpoint) -> Found:
    check_safetensors(checkpoint.folder / WEIGHTS)
    base = Base(checkpoint.size, checkpoint.sha256)
    return Found(checkpoint.folder, checkpoint.source, checkpoint.sha256, base=base)


def load(found: Found, dropout: float = 0.0) -> Any:
    """A model of transformers in float32, adapters merged. UserError where it cannot be loaded."""
    import torch

    from hlas.models.whisper_transformers import load_whisper

    # SpecAugment is hlas's own, which knows where a clip ends
    whisper = load_whisper(found.folder, torch.float32, dropout=dropout, apply_spec_augment=False)
    whisper.model.encoder.embed_positions.requires_grad_(False)  # sinusoids; transformers forgets it when it loads
    return merge(whisper, found.below)
