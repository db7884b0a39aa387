"""The weights that a fine-tuning starts from: a size's own, a folder's, or a base with adapters to merge."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.models.finetuning.adapters import Base, base_of, chain, check_base, merge
from hlas.models.whisper_checkpoint import WEIGHTS, WhisperCheckpoint, whisper_checkpoint
from hlas.models.whisper_file import check_safetensors, config_shape
from hlas.models.whisper_folders import folder_kind
from hlas.models.whisper_hashes import checked_sha256
from hlas.models.whisper_sizes import SIZES, size_of

DEFAULT_SIZE = "base"  # where neither a size nor an init says another


@dataclass(frozen=True, slots=True)
class Found:
    """Where the weights are."""

    folder: Path  # of transformers: config, weights, tokenizer, feature extractor
    source: str  # for the record, without a path of this machine
    sha256: str  # of its model.safetensors
    size: str  # its name, or what the model is made of where it is none of OpenAI's sizes
    below: tuple[Path, ...] = ()  # adapters to merge into them, in order
    base: Base | None = None  # what an adapter can be said to belong to; None: only a whole model can be saved


def find(size: str, init: Path | None, source: str) -> Found:
    """The weights of a size, or those that the input `init` leads to; size '': that of `init`, else DEFAULT_SIZE.

    UserError where they are none, damaged, or of another size than the one that is named.
    """
    if init is None:
        return _of_size(whisper_checkpoint(size or DEFAULT_SIZE))
    kind = folder_kind(init)
    if kind == "ctranslate2":
        raise UserError(str(init), "a CTranslate2 folder, which cannot be trained", "name a Hugging Face folder")
    shape = SIZES[base_of(init).size].shape if kind == "adapter" else config_shape(init)
    if size and SIZES[size].shape != shape:
        problem = f"{source or init}, the input init, is a Whisper {size_of(shape)} ({shape})"
        raise UserError(f"model.size: {size}", problem, "leave size empty: it is then that of init")
    if kind == "adapter":
        return on_base(init, source)
    check_safetensors(init / WEIGHTS)
    sha256 = checked_sha256(init / WEIGHTS)
    return Found(init, source or "a folder that the user gave", sha256, size_of(shape))


def on_base(folder: Path, source: str) -> Found:
    """The base that an adapter's folder asks for, and the adapters to merge. UserError where it is another one."""
    size = base_of(folder).size
    try:
        checkpoint = whisper_checkpoint(size)
    except UserError as error:
        raise UserError(f"{folder}: the adapter's base: {error.where}", error.problem, error.fix) from error
    check_base(folder, checkpoint.sha256)
    source = source or "an adapter that the user gave"
    return replace(_of_size(checkpoint), source=source, below=tuple(chain(folder)))


def _of_size(checkpoint: WhisperCheckpoint) -> Found:
    base = Base(checkpoint.size, checkpoint.sha256)
    return Found(checkpoint.folder, checkpoint.source, checkpoint.sha256, checkpoint.size, base=base)


def load(found: Found, dropout: float = 0.0) -> Any:
    """A model of transformers in float32, adapters merged. UserError where it cannot be loaded."""
    import torch

    from hlas.models.whisper_transformers import load_whisper

    # SpecAugment is hlas's own, which knows where a clip ends
    whisper = load_whisper(found.folder, torch.float32, dropout=dropout, apply_spec_augment=False)
    whisper.model.encoder.embed_positions.requires_grad_(False)  # sinusoids; transformers forgets it when it loads
    return merge(whisper, found.below)
