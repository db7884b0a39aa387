"""What of a pretrained model stays as it is while the rest is trained: one vocabulary for NeMo and for Whisper.

What is frozen keeps its weights and is in evaluation mode: no dropout, and batch normalisation uses, and keeps, its
statistics. So a frozen part is one fixed function of its input, whose outputs may as well be computed once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hlas.errors import UserError

ExceptLast = dict[Literal["encoder_except_last"], int]
# none: all is trained; encoder: only what comes after it is; encoder_except_last: N - its last N blocks are, too;
# feature_encoder: what comes before the encoder's blocks (the subsampling convolutions) is frozen, all else trained
Freeze = Literal["none", "encoder", "feature_encoder"] | ExceptLast


def written(freeze: Freeze) -> str:
    """As a YAML has it: 'encoder', '{encoder_except_last: 2}'."""
    return freeze if isinstance(freeze, str) else f"{{encoder_except_last: {freeze['encoder_except_last']}}}"


def check_freeze(freeze: Freeze, unfreeze: Mapping[int, Freeze]) -> None:
    """Raise ValueError where one is none of the four, or where a later epoch does not train more than those before."""
    for policy in (freeze, *unfreeze.values()):
        if isinstance(policy, dict) and (len(policy) != 1 or policy.get("encoder_except_last", 0) < 1):
            raise ValueError("freeze: {encoder_except_last: N} names N, the last blocks that are trained, at least 1")
    before = freeze
    for epoch, policy in sorted(unfreeze.items()):
        if epoch < 1:
            raise ValueError(f"unfreeze: epoch {epoch} is not 1 or more; what is frozen from the start is `freeze`")
        if _trained_share(policy) <= _trained_share(before):
            raise ValueError(
                f"unfreeze: {written(policy)} from epoch {epoch} on trains no more than {written(before)} before it;"
                " the order is encoder, {encoder_except_last: N} with a growing N, feature_encoder, none"
            )
        before = policy


def _trained_share(freeze: Freeze) -> tuple[float, int]:
    """Sorts by how much is trained."""
    if isinstance(freeze, dict):
        return freeze["encoder_except_last"], 0
    return {"encoder": (0, 0), "feature_encoder": (math.inf, 0), "none": (math.inf, 1)}[freeze]


@dataclass(frozen=True, slots=True)
class Parts:
    """The modules of an encoder in the order of the data flow; what is none of them belongs to what precedes blocks."""

    features: tuple[Any, ...]  # subsampling convolutions
    blocks: tuple[Any, ...]
    after: tuple[Any, ...]  # a last normalisation or projection: trained as soon as the last block is


def apply_freeze(model: Any, freeze: Freeze, batch_norm: bool = False) -> None:
    """Freeze a part of the model's encoder and, with `batch_norm`, every batch normalisation; thaws nothing.

    `model` is a NeMo CTC model or one of transformers' that have an encoder. Raises UserError where the encoder is of
    an unknown class or has fewer blocks than are named.
    """
    frozen = frozen_modules(encoder_of(model), freeze)
    if batch_norm:
        # by name: NeMo's FusedBatchNorm1d (batch normalisation folded into a scale) is no kind of torch's
        frozen += [module for module in model.modules() if "BatchNorm" in type(module).__name__]
    among = set(frozen)
    for module in frozen:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if not any(part not in among and _has_parameters(part) for part in module.modules()):
            module.training = False  # one that holds trained modules stays in their mode; blocks share an activation


def _has_parameters(module: Any) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def encoder_of(model: Any) -> Any:
    """The encoder of a NeMo model or of one of transformers'."""
    return model.encoder if hasattr(model, "encoder") else model.get_encoder()


def frozen_modules(encoder: Any, freeze: Freeze) -> list[Any]:
    """Every module of the encoder whose own parameters are frozen. Raises UserError as apply_freeze does."""
    if freeze == "none":
        return []
    if freeze == "encoder":
        return list(encoder.modules())
    parts = parts_of(encoder)
    if isinstance(freeze, str):
        return [module for part in parts.features for module in part.modules()]
    last = freeze["encoder_except_last"]
    if last > len(parts.blocks):
        problem = f"the {type(encoder).__name__} has {len(parts.blocks)} blocks"
        fix = f"at most {len(parts.blocks)}; or freeze: feature_encoder, or none"
        raise UserError(f"freeze: {{encoder_except_last: {last}}}", problem, fix)
    trained = {module for part in (*parts.blocks[-last:], *parts.after) for module in part.modules()}
    return [module for module in encoder.modules() if module not in trained]


def parts_of(encoder: Any) -> Parts:
    """The parts of an encoder of a known class. Raises UserError for another."""
    classes = {base.__name__ for base in type(encoder).__mro__}
    if "ConvASREncoder" in classes:
        return _conv_parts(tuple(encoder.encoder))
    if "ConformerEncoder" in classes:
        after = (encoder.out_proj,) if encoder.out_proj is not None else ()
        return Parts((encoder.pre_encode,), tuple(encoder.layers), after)
    if "TransformerEncoder" in classes and hasattr(encoder, "pre_encode"):  # torch has one of that name, too
        return Parts((encoder.pre_encode,), tuple(encoder.layers), (encoder.norm,))
    if "WhisperEncoder" in classes:
        whisper = getattr(encoder, "whisper", encoder)  # ours holds one of transformers'
        features = (whisper.conv1, whisper.conv2, whisper.embed_positions)
        return Parts(features, tuple(whisper.layers), (whisper.layer_norm,))
    known = "ConvASREncoder, ConformerEncoder, TransformerEncoder, WhisperEncoder"
    problem = f"the blocks of a {type(encoder).__name__} are not known"
    raise UserError("freeze", problem, f"freeze: encoder, or none; blocks are known of {known}")


def _conv_parts(blocks: tuple[Any, ...]) -> Parts:
    """Of QuartzNet and its kin: the stem is the first block, and those right after it that stride without a residual.

    A Citrinet strides again further on, in blocks with residuals: those are blocks like the others.
    """
    stem = 1
    while stem < len(blocks) and blocks[stem].res is None and _strides(blocks[stem]):
        stem += 1
    return Parts(blocks[:stem], blocks[stem:], ())


def _strides(block: Any) -> bool:
    return any(max(getattr(module, "stride", None) or (1,)) > 1 for module in block.mconv.modules())
