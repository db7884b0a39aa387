"""The labels of a model that is there already, so that a training that starts from it keeps its decoder.

They are read out of the `.nemo` file without restoring the model. Nothing is unpacked: the config and the SentencePiece
model are read into memory by their names, so that a foreign file writes nowhere, and the weights are not looked at.
"""

import tarfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from hlas.errors import UserError
from hlas.models.nemo_file import no_nemo_file
from hlas.tokenizers.spm import write_sentencepiece
from hlas.tokenizers.stage import Labels

CONFIG = "model_config.yaml"
MOST_BYTES = 64 * 2**20  # of a config or a SentencePiece model: far more than either has
_BROKEN = (tarfile.TarError, EOFError, zlib.error, OSError)  # OSError: gzip's BadGzipFile, too
_WHOLE = "is it a model that NeMo saved, and whole?"
_TRAIN_ONE = "train a tokenizer (tokenizers/bpe_128.yaml): the decoder then starts anew"


def take_labels(path: Path, folder: Path, where: str) -> tuple[tuple[str, ...], str]:
    """The labels of a `.nemo` file in its order, and their unit ('char' | 'bpe'); SentencePiece's files go to `folder`.

    Raises UserError where the file is none, is broken, or has no labels that can be taken.
    """
    if found := no_nemo_file(path):
        raise UserError(where, *found)
    if not path.is_file():
        raise UserError(where, "no such model file", "name a .nemo file")
    try:
        with tarfile.open(path) as archive:
            members = {str(PurePosixPath(member.name)): member for member in archive if member.isfile()}
            config = _parsed(_content(archive, members, CONFIG, where), where)
            section = config.get("tokenizer")
            if not isinstance(section, dict):
                return _characters(config, where), "char"
            model = _content(archive, members, _sentencepiece_name(section, where), where)
    except _BROKEN as error:
        raise UserError(where, f"cannot be read to its end: {error}", _WHOLE) from error
    try:
        return write_sentencepiece(model, folder), "bpe"
    except ValueError as error:
        raise UserError(where, f"its tokenizer is damaged: {error}", _WHOLE) from error


def unspelled(texts: Iterable[str], labels: Labels) -> tuple[int, str]:
    """How many texts hold a character that the labels cannot spell, and those characters."""
    from hlas.lm.token_text import tokenizer_of

    tokenize = tokenizer_of(labels)
    strange = [text for text in texts if tokenize(text) is None]
    characters = {c for c in set("".join(strange)) if tokenize(c) is None}
    return len(strange), "".join(sorted(characters))


def _content(archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], name: str, where: str) -> bytes:
    """The bytes of a regular file of the archive."""
    member = members.get(name)
    if member is None:
        raise UserError(where, f"holds no file {name}", _WHOLE)
    if member.size > MOST_BYTES:
        problem = f"its {name} has {member.size / 2**20:.0f} MiB, which neither a config nor a tokenizer has"
        raise UserError(where, problem, _WHOLE)
    file = archive.extractfile(member)
    assert file is not None  # it is a regular file
    return file.read()


def _parsed(text: bytes, where: str) -> dict[str, Any]:
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(where, f"its {CONFIG} is no YAML: {str(error).splitlines()[0]}", _WHOLE) from error
    if not isinstance(config, dict):
        raise UserError(where, f"its {CONFIG} holds no settings", _WHOLE)
    return config


def _sentencepiece_name(section: Mapping[str, Any], where: str) -> str:
    """The archive's name of the SentencePiece model, from the config's `tokenizer` section."""
    kind = str(section.get("type")).lower()
    if kind != "bpe" or section.get("custom_tokenizer"):
        kind = "a class of its own" if kind == "bpe" else {"wpe": "WordPiece", "agg": "several in one"}.get(kind, kind)
        raise UserError(where, f"its tokenizer is not SentencePiece's, but {kind}", _TRAIN_ONE)
    # 'nemo:<hash>_tokenizer.model'; models of NeMo's first versions have a path, whose last part is in the archive
    return PurePosixPath(str(section.get("model_path") or "tokenizer.model").removeprefix("nemo:")).name


def _characters(config: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The labels of a character model, as its decoder has them."""
    decoder = config.get("decoder")
    labels = (decoder.get("vocabulary") if isinstance(decoder, dict) else None) or config.get("labels")
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise UserError(where, "its config names neither a tokenizer nor labels", "name a CTC model")
    return tuple(labels)
