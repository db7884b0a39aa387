"""CTranslate2's folder of a Whisper -> a `transformers` folder, for machines that have the one and no hub.

The weights of Systran's conversions are OpenAI's in float16, so nothing is lost that they still hold. Layout of
`model.bin` (CTranslate2's ModelSpec.save, little endian): version, name of the specification, its revision, then the
variables, each with name, shape, type, bytes and data, then second names; a text begins with its length and ends with
a zero byte.
"""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from hlas.errors import UserError
from hlas.files import read_json
from hlas.models.whisper_file import read_number, read_text
from hlas.models.whisper_sizes import Size

Tensors = dict[str, npt.NDArray[np.float32]]
_FLOAT_TYPES = {0: "<f4", 4: "<f2"}  # CTranslate2 numbers its types
_SPEC = "WhisperSpec"
_END, _START, _TRANSLATE, _TRANSCRIBE, _PREVIOUS, _NO_TIMESTAMPS = (  # special tokens
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startofprev|>",
    "<|notimestamps|>",
)


def convert(source: Path, target: Path, size: Size) -> None:
    """Write the model, its generation config, tokenizer and feature extractor into the folder `target`.

    Raises UserError where `source` holds other weights than float ones of this size.
    """
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizerFast,
    )

    tensors = hugging_face_names(read_variables(source / "model.bin"), size)
    tokenizer = WhisperTokenizerFast(
        tokenizer_file=str(source / "tokenizer.json"), unk_token=_END, bos_token=_END, eos_token=_END, pad_token=_END
    )
    ids: Mapping[str, int] = tokenizer.get_vocab()
    special = {
        "bos_token_id": ids[_END],
        "eos_token_id": ids[_END],
        "pad_token_id": ids[_END],
        "decoder_start_token_id": ids[_START],
    }
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=tensors["proj_out.weight"].shape[0],
            num_mel_bins=size.mels,
            d_model=size.width,
            encoder_layers=size.layers,
            encoder_attention_heads=size.heads,
            encoder_ffn_dim=4 * size.width,
            decoder_layers=size.decoder_layers or size.layers,
            decoder_attention_heads=size.heads,
            decoder_ffn_dim=4 * size.width,
            **special,
        )
    )
    try:
        model.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    except RuntimeError as error:
        problem = f"not the weights of this size: {str(error).splitlines()[-1].strip()}"
        raise UserError(str(source), problem, "name the size that they are of") from error
    options = read_json(source / "config.json")
    languages = set(options["lang_ids"])
    model.generation_config = GenerationConfig(
        **special,
        suppress_tokens=options["suppress_ids"],
        begin_suppress_tokens=options["suppress_ids_begin"],
        alignment_heads=options["alignment_heads"],
        is_multilingual=True,
        lang_to_id={token: i for token, i in sorted(ids.items(), key=lambda item: item[1]) if i in languages},
        task_to_id={"transcribe": ids[_TRANSCRIBE], "translate": ids[_TRANSLATE]},
        no_timestamps_token_id=ids[_NO_TIMESTAMPS],
        prev_sot_token_id=ids[_PREVIOUS],
        max_initial_timestamp_index=50,  # Whisper's own: the first word begins in the first second
        max_length=448,  # of the decoder's positions
        return_timestamps=False,
    )
    model.save_pretrained(target)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=size.mels), tokenizer).save_pretrained(target)


def read_variables(path: Path) -> Tensors:
    """The float variables of a CTranslate2 Whisper model by name. Raises UserError where they are not such."""
    try:
        with path.open("rb") as file:
            read_number(file, "I")  # version of the layout
            if (spec := read_text(file)) != _SPEC:
                raise UserError(str(path), f"a '{spec}', not a '{_SPEC}'", "name the folder of a Whisper model")
            read_number(file, "I")  # revision of the specification
            read = [_variable(file) for _ in range(read_number(file, "I"))]
            variables = {name: array for name, array in read if array is not None}
            count = read_number(file, "I")  # of the variables that are the same as another
            aliases = [(read_text(file), read_text(file)) for _ in range(count)]
            return variables | {alias: variables[name] for alias, name in aliases if name in variables}
    except (struct.error, ValueError) as error:
        raise UserError(str(path), f"not a whole CTranslate2 model: {error}", "fetch or convert it again") from error


def _variable(file: BinaryIO) -> tuple[str, npt.NDArray[np.float32] | None]:
    """The next variable; None for one that is not of floats: CTranslate2 keeps its settings among the weights."""
    name = read_text(file)
    shape = [read_number(file, "I") for _ in range(read_number(file, "B"))]
    kind = read_number(file, "B")
    data = file.read(read_number(file, "I"))
    if kind not in _FLOAT_TYPES:
        return name, None
    return name, np.frombuffer(data, dtype=_FLOAT_TYPES[kind]).reshape(shape).astype(np.float32)


def hugging_face_names(variables: Mapping[str, Any], size: Size) -> Tensors:
    """CTranslate2's variables under the names, and split as, `transformers` has them."""
    try:
        return dict(_renamed(variables, size))
    except KeyError as error:
        problem = f"no float variable {error}: weights of another size, or quantised to integers"
        raise UserError("CTranslate2 Whisper", problem, "take a float16 or float32 conversion of this size") from error


def _renamed(variables: Mapping[str, Any], size: Size) -> "list[tuple[str, Any]]":
    out: list[tuple[str, Any]] = []

    def norm(target: str, source: str) -> None:
        out.append((f"{target}.weight", variables[f"{source}/gamma"]))
        out.append((f"{target}.bias", variables[f"{source}/beta"]))

    def linear(target: str, source: str) -> None:
        out.extend((f"{target}.{part}", variables[f"{source}/{part}"]) for part in ("weight", "bias"))

    def attention(target: str, source: str, projections: tuple[str, ...]) -> None:
        """CTranslate2 stacks the projections of one input, a string each: 'qkv', or 'q' and 'kv'."""
        for number, stacked in enumerate(projections):
            for part in ("weight", "bias"):
                pieces = np.split(variables[f"{source}/linear_{number}/{part}"], len(stacked))
                out.extend(
                    (f"{target}.{name}_proj.{part}", piece)
                    for name, piece in zip(stacked, pieces, strict=True)
                    if (name, part) != ("k", "bias")  # Whisper's keys have none; CTranslate2 writes zeros
                )
        linear(f"{target}.out_proj", f"{source}/linear_{len(projections)}")
        norm(f"{target}_layer_norm", f"{source}/layer_norm")

    for side, layers in (("encoder", size.layers), ("decoder", size.decoder_layers or size.layers)):
        for i in range(layers):
            target, source = f"model.{side}.layers.{i}", f"{side}/layer_{i}"
            attention(f"{target}.self_attn", f"{source}/self_attention", ("qkv",))
            if side == "decoder":
                attention(f"{target}.encoder_attn", f"{source}/attention", ("q", "kv"))
            linear(f"{target}.fc1", f"{source}/ffn/linear_0")
            linear(f"{target}.fc2", f"{source}/ffn/linear_1")
            norm(f"{target}.final_layer_norm", f"{source}/ffn/layer_norm")
        norm(f"model.{side}.layer_norm", f"{side}/layer_norm")
        out.append((f"model.{side}.embed_positions.weight", variables[f"{side}/position_encodings/encodings"]))
    for name in ("conv1", "conv2"):
        linear(f"model.encoder.{name}", f"encoder/{name}")
    embeddings = variables["decoder/embeddings/weight"]
    return [*out, ("model.decoder.embed_tokens.weight", embeddings), ("proj_out.weight", embeddings)]
