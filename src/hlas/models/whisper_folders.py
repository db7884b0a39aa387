"""From what a spec or an edge names to the folder that an engine loads, checked and, where need be, converted.

Two kinds of folders hold a Whisper: CTranslate2's (model.bin) and Hugging Face's (model.safetensors). A LoRA adapter's
folder (adapter_config.json) is merged into the base that it names, once, and kept in hlas's cache.
"""

import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hlas.errors import UserError
from hlas.files import atomic_folder, sha256_file, sha256_json
from hlas.models.transformers_quiet import quieten
from hlas.models.whisper_checkpoint import WEIGHTS, whisper_checkpoint
from hlas.models.whisper_file import check_ctranslate2, check_safetensors, config_shape
from hlas.models.whisper_hashes import checked_sha256, intact, verified, write_hashes
from hlas.models.whisper_hub import own_cache
from hlas.models.whisper_options import WhisperOptions
from hlas.models.whisper_sizes import SIZES, conversion_name, size_name, size_of
from hlas.models.whisper_weights import FOLDER_VARIABLE, JOINED, is_model, whisper_weights

LOG = logging.getLogger("hlas")
ADAPTER_CONFIG = "adapter_config.json"
_COPIED = ("tokenizer.json", "preprocessor_config.json")
Kind = Literal["ctranslate2", "hugging_face", "adapter"]


@dataclass(frozen=True, slots=True)
class Found:
    """A folder that the engine can load."""

    folder: Path
    source: str  # for the record, without a path of this machine
    sha256: str  # of the weights as they were named, before any conversion
    size: str  # its name, or what the model is made of where it is none of OpenAI's sizes


def folder_kind(folder: Path) -> Kind:
    """What a folder holds. UserError where it is no Whisper."""
    if is_model(folder):
        return "ctranslate2"
    if (folder / ADAPTER_CONFIG).is_file():
        return "adapter"
    if (folder / WEIGHTS).is_file() and (folder / "config.json").is_file():
        return "hugging_face"
    problem = "no Whisper in this folder" if folder.is_dir() else "no such folder"
    fix = f"a CTranslate2 folder (model.bin) or a Hugging Face folder ({WEIGHTS}, config.json)"
    raise UserError(str(folder), problem, fix)


def engine_folder(model: str, given: Path | None, options: WhisperOptions, source: str = "") -> Found:
    """The folder for the options' engine: of `given` if there is one, else of `model` wherever that is found.

    `source` says in the record where `given` comes from. UserError where the weights are not to be had, are cut off,
    are of another size than `model`, or are not what their place says they are.
    """
    if given is None:
        return _by_name(model, options)
    kind, source = folder_kind(given), source or "a folder that the user gave"
    if kind == "ctranslate2":
        if options.engine == "transformers":
            raise UserError(
                str(given),
                "a CTranslate2 folder, which the transformers engine cannot run",
                "set engine: faster-whisper, or name the Hugging Face folder that it was converted from",
            )
        shape = check_ctranslate2(given)
        return Found(given, source, checked_sha256(given / "model.bin"), size_of(shape))
    if kind == "adapter":
        folder, hashes = _merged(given)
        return _engines_own(folder, f"{source}, merged", options, hashes)
    check_safetensors(given / WEIGHTS)
    return _engines_own(given, source, options, {})


def _engines_own(folder: Path, source: str, options: WhisperOptions, hashes: Mapping[str, str]) -> Found:
    """A Hugging Face folder in the form that the engine loads; `hashes` of its files, where they were just taken."""
    size = size_of(config_shape(folder))
    hashes = hashes or {WEIGHTS: checked_sha256(folder / WEIGHTS)}
    own = folder if options.engine == "transformers" else _converted(folder, hashes)
    return Found(own, source, hashes[WEIGHTS], size)


def _merged(adapter: Path) -> tuple[Path, Mapping[str, str]]:
    """The Hugging Face form of an adapter on its base, kept in hlas's cache under the hash of the adapter's files.

    With the hashes of its files. Like a conversion it is made anew where it is no more what was written.
    """
    from hlas.models.finetuning.saving import save_whole
    from hlas.models.finetuning.start import load, on_base

    found = on_base(adapter, "")  # also checks that it is this base's
    names = [found.sha256, *(_digest(folder, {}) for folder in found.below)]
    target = own_cache(f"whisper-merged-{sha256_json(names)[:16]}")
    hashes = verified(target)
    if not hashes:
        LOG.info("Whisper: merging the adapter in %s into its base, once", adapter)
        with atomic_folder(target, intact) as partial:
            save_whole(load(found), partial, found.folder)
            hashes = write_hashes(partial)
    return target, hashes


def _by_name(model: str, options: WhisperOptions) -> Found:
    if options.engine == "transformers":
        checkpoint = whisper_checkpoint(size_name(model))
        return Found(checkpoint.folder, checkpoint.source, checkpoint.sha256, checkpoint.size)
    weights = whisper_weights(conversion_name(model))
    shape = check_ctranslate2(weights.folder)
    size = SIZES.get(size_name(model))
    if size is not None and shape != size.shape:
        problem = (
            f"holds a Whisper of {shape.layers} layers of {shape.width}; {model} has {size.layers} of {size.width} "
            f"(decoder layers: {shape.decoder_layers} there, {size.shape.decoder_layers} wanted; "
            f"mel bands: {shape.mels} there, {size.mels} wanted)"
        )
        fix = f"let {FOLDER_VARIABLE} lead to {model}, or set model: to the size that is there"
        raise UserError(str(weights.folder), problem, fix)
    known = JOINED["model.bin"].sha256
    pinned = model == "base" and weights.source != FOLDER_VARIABLE  # a folder of one's own may be another conversion
    if pinned and weights.sha256 != known:
        problem = f"its model.bin has the SHA-256 {weights.sha256}, expected {known}: it is damaged or was exchanged"
        raise UserError(str(weights.folder), problem, "delete the folder, and it is fetched again")
    return Found(weights.folder, weights.source, weights.sha256, size_of(shape))


def _digest(folder: Path, hashes: Mapping[str, str]) -> str:
    """Part of the hash of the files in a folder; `hashes` of them, as far as they are known."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    return sha256_json([[file.name, hashes.get(file.name) or sha256_file(file)] for file in files])[:16]


def _converted(folder: Path, hashes: Mapping[str, str]) -> Path:
    """The CTranslate2 form of a Hugging Face folder, kept in hlas's cache under the hash of its files."""
    target = own_cache(f"whisper-ct2-{_digest(folder, hashes)}")
    if not intact(target):
        with atomic_folder(target, intact) as partial:
            _convert(folder, partial)
            write_hashes(partial)
    return target


def _convert(folder: Path, out: Path) -> None:
    from ctranslate2.converters import TransformersConverter
    from transformers import WhisperProcessor

    quieten()
    LOG.info("Whisper: converting %s for faster-whisper, once", folder)
    try:
        TransformersConverter(str(folder)).convert(str(out), force=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(str(folder), f"cannot be converted for faster-whisper: {error}", "save it again") from error
    if not all((folder / name).is_file() for name in _COPIED):  # older or newer forms of the same
        with tempfile.TemporaryDirectory() as plain:
            processor = WhisperProcessor.from_pretrained(str(folder), local_files_only=True)
            processor.tokenizer.save_pretrained(plain)
            processor.feature_extractor.save_pretrained(plain)
            _copy(Path(plain), out)
    _copy(folder, out)


def _copy(source: Path, target: Path) -> None:
    for name in _COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
