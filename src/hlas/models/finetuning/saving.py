"""A tuned Whisper on disk: a whole folder of transformers, an adapter alone, or both, the one inside the other."""

import shutil
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.models.finetuning.adapters import save_adapter
from hlas.models.finetuning.start import Found
from hlas.models.whisper_checkpoint import PATTERNS, WEIGHTS
from hlas.models.whisper_hashes import write_hashes

ADAPTER = "adapter"  # inside a merged model's folder
_OWN = ("config.json", WEIGHTS)  # what a model writes itself; all else is the base's


def save_whole(whisper: Any, folder: Path, base: Path) -> None:
    """Save a model without adapters, with the tokenizer and the settings of the base's folder and its weights' hash."""
    whisper.config.apply_spec_augment = False
    whisper.config.dropout = 0.0
    whisper.config._name_or_path = ""
    whisper.save_pretrained(folder, max_shard_size="100GB")
    (folder / WEIGHTS).chmod(0o644)  # safetensors makes it its owner's alone
    for pattern in PATTERNS:
        for file in base.glob(pattern):
            if file.name not in _OWN:
                shutil.copyfile(file, folder / file.name)
    write_hashes(folder, [WEIGHTS])


def save_tuned(whisper: Any, adapted: Any, merged: bool, found: Found, folder: Path) -> str:
    """Save what was trained; returns what that is. `adapted` is peft's model around `whisper`, or None.

    With `merged` the adapter ends up in the weights of `whisper`, which is no more trained after it.
    """
    shutil.rmtree(folder, ignore_errors=True)  # what a run that was killed while it saved has left
    if adapted is None:
        save_whole(whisper, folder, found.folder)
        return "whole model"
    if found.base is not None:
        save_adapter(adapted, folder / ADAPTER if merged else folder, found.base, found.below)
    if not merged:
        return "adapter"
    save_whole(adapted.merge_and_unload(), folder, found.folder)
    return "adapter, merged"


def check_saving(adapted: bool, merged: bool, found: Found) -> None:
    """Raise UserError where an adapter alone would lack its base ever after."""
    if adapted and not merged and found.base is None:
        problem = f"an adapter on {found.source} could not find these weights again"
        raise UserError("finetune: merge", problem, "set merge: true, and the whole model is saved")
