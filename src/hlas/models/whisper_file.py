"""Whether a file of weights is whole, and of what size of model, without reading its numbers."""

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hlas.errors import UserError

_LAYER = re.compile(r"encoder/layer_(\d+)/")
_NORM = "encoder/layer_norm/gamma"
_AGAIN = "fetch or convert it again"


@dataclass(frozen=True, slots=True)
class Shape:
    """The encoder of a model."""

    layers: int
    width: int


def check_bin(path: Path) -> Shape:
    """Walk over the variables of CTranslate2's `model.bin` (see hlas.models.whisper_convert) to the file's end.

    Raises UserError where the file ends before they do, or holds no Whisper.
    """
    try:
        with path.open("rb") as file:
            read_number(file, "I")  # version of the layout
            spec = read_text(file)
            read_number(file, "I")  # revision of the specification
            shapes = dict(_variable(file) for _ in range(read_number(file, "I")))
            for _ in range(2 * read_number(file, "I")):  # second names of variables, in pairs
                read_text(file)
    except (struct.error, ValueError) as error:
        raise UserError(str(path), f"damaged: {error}; it has {path.stat().st_size} bytes", _AGAIN) from error
    layers = {match[1] for name in shapes if (match := _LAYER.match(name))}
    if spec != "WhisperSpec" or _NORM not in shapes:
        raise UserError(str(path), f"a '{spec}', not a 'WhisperSpec'", "name the folder of a Whisper model")
    return Shape(len(layers), shapes[_NORM][0])


def read_number(file: BinaryIO, kind: str) -> int:
    """A little-endian number; `kind` as in the module struct. struct.error where the file ends."""
    layout = struct.Struct("<" + kind)
    value: int = layout.unpack(file.read(layout.size))[0]
    return value


def read_text(file: BinaryIO) -> str:
    """A text with its length before it and a zero byte behind. ValueError where the file ends."""
    length = read_number(file, "H")
    data = file.read(length)
    if len(data) < length:
        raise ValueError("a name is cut off")
    return data[:-1].decode()


def _variable(file: BinaryIO) -> tuple[str, tuple[int, ...]]:
    name = read_text(file)
    shape = tuple(read_number(file, "I") for _ in range(read_number(file, "B")))
    read_number(file, "B")  # type
    file.seek(read_number(file, "I"), 1)
    return name, shape


def check_safetensors(path: Path) -> None:
    """Raise UserError where a safetensors file is not as long as its header says, or has no such header."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(read_number(file, "Q")))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except FileNotFoundError as error:
        raise UserError(str(path), "no such file", "name the folder that holds it") from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise UserError(str(path), "damaged: it does not begin as a safetensors file does", _AGAIN) from error
    with path.open("rb") as file:
        wanted = 8 + read_number(file, "Q") + max(ends, default=0)
    if path.stat().st_size != wanted:
        raise UserError(str(path), f"damaged: {path.stat().st_size} bytes of {wanted}", _AGAIN)
