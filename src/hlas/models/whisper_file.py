"""Whether the files of weights are whole, and of what size of model, without reading their numbers."""

import json
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from hlas.errors import UserError
from hlas.files import read_json
from hlas.models.whisper_sizes import Shape

_LAYER = re.compile(r"(?:^|\W)(encoder|decoder)[./]layer(?:_|s\.)(\d+)[./]")  # CTranslate2's name or transformers'
_CONVOLUTION, _NORM, _EMBEDDINGS = "encoder/conv1/weight", "encoder/layer_norm/gamma", "decoder/embeddings/weight"
_AGAIN = "fetch or convert it again"


def check_ctranslate2(folder: Path) -> Shape:
    """Check the files of a CTranslate2 folder against one another; UserError where one is cut off or no Whisper's."""
    shapes = _bin_shapes(folder / "model.bin")
    wanted = shapes[_EMBEDDINGS][0]
    read_object(folder / "config.json")
    for path in folder.glob("vocabulary.*"):  # CTranslate2 takes a short one, and the model for an English-only one
        if (found := _entries(path)) < wanted:
            raise UserError(str(path), f"damaged: {found} entries, and the model has {wanted} tokens", _AGAIN)
    return _shape(shapes, shapes[_CONVOLUTION])


def check_bin(path: Path) -> Shape:
    """Walk over the variables of CTranslate2's `model.bin` (see hlas.models.whisper_convert) to the file's end.

    Raises UserError where the file ends before they do, or holds no Whisper.
    """
    shapes = _bin_shapes(path)
    return _shape(shapes, shapes[_CONVOLUTION])


def _bin_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the variables by name."""
    try:
        with path.open("rb") as file:
            read_number(file, "I")  # version of the layout
            spec = read_text(file)
            read_number(file, "I")  # revision of the specification
            shapes = dict(_variable(file) for _ in range(read_number(file, "I")))
            for _ in range(read_number(file, "I")):  # second names of variables
                alias, name = read_text(file), read_text(file)
                shapes[alias] = shapes[name]
    except (struct.error, ValueError, KeyError) as error:
        raise UserError(str(path), f"damaged: {error}; it has {path.stat().st_size} bytes", _AGAIN) from error
    if spec != "WhisperSpec" or not {_CONVOLUTION, _NORM, _EMBEDDINGS} <= shapes.keys():
        raise UserError(str(path), f"a '{spec}', not a 'WhisperSpec'", "name the folder of a Whisper model")
    return shapes


def _shape(names: Iterable[str], convolution: Iterable[int]) -> Shape:
    """The model's, from the names of its layers and the shape (width, mels, 3) of the encoder's first convolution."""
    layers = {found.groups() for name in names if (found := _LAYER.search(name))}
    width, mels, _ = convolution
    sides = [side for side, _ in layers]
    return Shape(sides.count("encoder"), width, mels, sides.count("decoder"))


def _entries(path: Path) -> int:
    """Number of a vocabulary's entries."""
    if path.suffix == ".json":
        return len(read_json_file(path))
    lines = path.read_bytes().split(b"\n")
    return len(lines) - (lines[-1] == b"")


def read_json_file(path: Path) -> Any:
    """The content of a JSON file that comes with weights. UserError where it is none."""
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(str(path), f"damaged, no JSON: {error}", _AGAIN) from error


def read_object(path: Path) -> Mapping[str, Any]:
    """The same where it must be an object."""
    content = read_json_file(path)
    if not isinstance(content, dict):
        raise UserError(str(path), "damaged: no JSON object", _AGAIN)
    return content


def config_shape(folder: Path) -> Shape:
    """What a Hugging Face folder's config.json says. UserError where it is cut off, or no Whisper's."""
    path = folder / "config.json"
    config = read_object(path)
    keys = ("encoder_layers", "d_model", "num_mel_bins", "decoder_layers")
    numbers = [number for key in keys if isinstance(number := config.get(key), int)]
    if len(numbers) < len(keys):
        raise UserError(str(path), "not the configuration of a Whisper of transformers", _AGAIN)
    return Shape(*numbers)


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


def check_safetensors(path: Path) -> Mapping[str, tuple[int, ...]]:
    """The shapes of the tensors by name. UserError where the file is not as long as its header says, or has none."""
    try:
        with path.open("rb") as file:
            length = read_number(file, "Q")
            header = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        wanted = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
    except FileNotFoundError as error:
        raise UserError(str(path), "no such file", "name the folder that holds it") from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise UserError(str(path), "damaged: it does not begin as a safetensors file does", _AGAIN) from error
    if path.stat().st_size != wanted:
        raise UserError(str(path), f"damaged: {path.stat().st_size} bytes of {wanted}", _AGAIN)
    return shapes


def safetensors_shape(path: Path) -> Shape:
    """That of the weights in a Hugging Face folder. UserError where the file is not whole, or holds no Whisper."""
    shapes = check_safetensors(path)
    convolution = next((shape for name, shape in shapes.items() if name.endswith("encoder.conv1.weight")), ())
    if len(convolution) != 3:
        raise UserError(str(path), "not the weights of a Whisper", "name the folder of a Whisper model")
    return _shape(shapes, convolution)
