"""LoRA adapters by peft: put into a Whisper, saved alone or merged into its weights, found again on their base.

A folder of an adapter is peft's own (adapter_config.json, adapter_model.safetensors) with sha256.json beside, the hash
of its weights, and base.json: the size and the hash of the weights that it belongs to, and the number of the adapters
(`below/1` …) that are merged into those before it.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.files import write_json
from hlas.models.finetuning.options import Lora
from hlas.models.freezing import Freeze, frozen_modules
from hlas.models.whisper_file import check_safetensors, read_object
from hlas.models.whisper_hashes import checked_sha256, write_hashes
from hlas.models.whisper_sizes import SIZES

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
BASE = "base.json"
BELOW = "below"  # folder of the adapters that are merged before this one
_HUB = "openai/whisper-"  # how other programs' adapters name their base


@dataclass(frozen=True, slots=True)
class Base:
    """What an adapter was trained on."""

    size: str  # of Whisper
    sha256: str = ""  # of the base's model.safetensors; '' where another program made the adapter and did not note it


def add_lora(whisper: Any, lora: Lora, freeze: Freeze) -> Any:
    """Put a new adapter into the model, in place, but for what is frozen; returns peft's model around it.

    Only the adapter is left to be trained. UserError where nothing is left to adapt.
    """
    from peft import LoraConfig, get_peft_model
    from torch import nn

    frozen = set(frozen_modules(whisper.model.encoder, freeze))
    targets = [
        name
        for name, module in whisper.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in lora.target_modules and module not in frozen
    ]
    if not targets:
        raise UserError("adapter.lora", "no layer is left to adapt", "freeze less, or name more target_modules")
    config = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, bias="none")
    return get_peft_model(whisper, config)


def save_adapter(adapted: Any, folder: Path, base: Base, below: Sequence[Path]) -> None:
    """Save the adapter alone, with copies of those that are merged beneath it."""
    adapted.peft_config["default"].base_model_name_or_path = _HUB + base.size  # else a path of this machine
    adapted.save_pretrained(folder)
    (folder / WEIGHTS).chmod(0o644)  # safetensors makes it its owner's alone
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty form
    for number, earlier in enumerate(below, 1):
        target = folder / BELOW / str(number)
        target.mkdir(parents=True)
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(earlier / name, target / name)
        write_hashes(target, [WEIGHTS])
    write_hashes(folder, [WEIGHTS])
    write_json(folder / BASE, {"size": base.size, "sha256": base.sha256, "below": len(below)})


def base_of(folder: Path) -> Base:
    """What the adapter in a folder belongs to. UserError where that cannot be told, or it is no LoRA for a size."""
    if (record := _record(folder)) is not None:
        return record[0]
    config = read_object(folder / CONFIG)
    named = config.get("base_model_name_or_path")
    if not named:
        raise UserError(str(folder), f"an adapter that does not say its base in its {CONFIG}", "save it again")
    if (kind := config.get("peft_type")) != "LORA":
        raise UserError(str(folder), f"an adapter of the kind {kind}", "merge it into its base with its own program")
    size = str(named).removeprefix(_HUB)
    if size == str(named) or size not in SIZES:
        what = "no Whisper of OpenAI's" if size == str(named) else f"no size that hlas has ({', '.join(SIZES)})"
        fix = "merge it into its base, and name the folder of the whole model"
        raise UserError(str(folder), f"an adapter for '{named}', which is {what}", fix)
    return Base(size)


def chain(folder: Path) -> list[Path]:
    """The adapters to merge into the base, in order; the last one is the folder's own."""
    record = _record(folder)
    below = record[1] if record else 0
    return [*(folder / BELOW / str(number) for number in range(1, below + 1)), folder]


def _record(folder: Path) -> tuple[Base, int] | None:
    """What base.json says: the base, and how many adapters are merged before; None where there is none."""
    if not (folder / BASE).is_file():
        return None
    read = read_object(folder / BASE)
    size, sha256, below = (read.get(key) for key in ("size", "sha256", "below"))
    if size not in SIZES or not isinstance(sha256, str) or not isinstance(below, int) or below < 0:
        problem = "damaged: it must say 'size' (one of Whisper's), 'sha256' and 'below' (a number)"
        raise UserError(str(folder / BASE), problem, "copy the adapter's folder again, or save it again")
    return Base(str(size), sha256), below


def check_base(folder: Path, sha256: str) -> None:
    """Raise UserError where the base's weights are not those that the adapter was trained on."""
    wanted = base_of(folder).sha256
    if wanted and wanted != sha256:
        problem = f"an adapter for base weights of SHA-256 {wanted[:12]}…, and those here have {sha256[:12]}…"
        raise UserError(str(folder), problem, "give it the weights that it was trained on (see its base.json)")


def merge(whisper: Any, adapters: Sequence[Path]) -> Any:
    """The model with the adapters merged into its weights one after another. UserError where one does not fit."""
    from peft import PeftModel
    from safetensors import SafetensorError

    for folder in adapters:
        check_safetensors(folder / WEIGHTS)
        checked_sha256(folder / WEIGHTS)
        try:
            adapted = PeftModel.from_pretrained(whisper, str(folder), local_files_only=True)
            _check_matrices(adapted, folder / WEIGHTS)
            whisper = adapted.merge_and_unload()
        except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
            problem = f"no adapter for this Whisper: {' '.join(str(error).split())[:300]}"
            raise UserError(str(folder), problem, "name the adapter of this size, or save it again") from error
    return whisper


def _check_matrices(adapted: Any, path: Path) -> None:
    """Raise ValueError where the file holds more or fewer matrices than the model has place for: peft would go on."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        differing = set(file.keys()) ^ set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if wrong := [name for name in differing if ".lora_" in name]:
        raise ValueError(f"{min(wrong)} is in the adapter's weights or in its configuration alone")
