"""The weights that a training starts from: another model's, its decoder only where the labels are the same.

A foreign .nemo file is an archive whose members NeMo checks as it unpacks them; its config may name NeMo's and torch's
modules only, and its weights are read as tensors, not as a pickle (torch's weights_only, which is the default unless
TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set).
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.models.freezing import Freeze, parts_of, written
from hlas.models.nemo_ctc import CtcModel
from hlas.models.nemo_file import no_nemo_file
from hlas.models.training.job import Start
from hlas.models.training.pretrained import pretrained_file

_SHOWN = 3  # of the weights that do not fit
_OUTPUT = "decoder_layers.0."  # the output layer of NeMo's ConvASRDecoder: a convolution of width 1, blank last


def start_from(model: Any, start: Start, log: logging.Logger) -> str:
    """Copy the weights that `start` names into the model; without any, a Whisper encoder's own.

    Returns what became of the decoder: 'new', 'kept', or how many of its rows were. Raises UserError where the file is
    no CTC model, or where the model has other features or another architecture.
    """
    if start.pretrained:
        name, path = start.pretrained, pretrained_file(start.pretrained)
    elif start.model:
        name, path = "/".join(start.model.parts[-2:]), start.model  # a stage's folder, where it is one's model.nemo
    else:
        if _has_own_weights(model):
            from hlas.models.whisper_checkpoint import whisper_checkpoint

            checkpoint = whisper_checkpoint(model.encoder.size)
            model.encoder.load_pretrained(checkpoint.folder)
            log.info("the encoder starts from Whisper %s (%s)", checkpoint.size, checkpoint.source)
        return "new"
    where = f"init {name}"
    other = _load(path, where)
    _check_fits(model, other.model, where)
    _copy_encoder(model, other.model, where, log)
    decoder = _copy_decoder(model, other, start.keep_rows, where)
    log.info("starts from %s; decoder: %s", name, decoder)
    return decoder


def check_frozen(model: Any, start: Start, freeze: Freeze, batch_norm: bool) -> None:
    """Raise UserError where what nothing has trained is to be kept: weights, or statistics of batch normalisation."""
    if start.model or start.pretrained or _has_own_weights(model):
        return
    fix = "name a model to start from: init, or pretrained"
    if freeze != "none":
        raise UserError(f"freeze: {written(freeze)}", "would keep random weights", fix)
    if batch_norm:
        raise UserError("freeze_batch_norm", "would keep statistics of nothing", fix)


def _has_own_weights(model: Any) -> bool:
    """Whether the encoder is one that comes with pretrained weights (WhisperEncoder)."""
    return bool(getattr(model.encoder, "pretrained", False))


def _load(path: Path, where: str) -> CtcModel:
    if found := no_nemo_file(path):
        raise UserError(where, *found)
    return CtcModel.load(path, "cpu")


def _check_fits(model: Any, other: Any, where: str) -> None:
    """Raise UserError where the encoder is another one, or hears other features.

    Encoders that look alike but for their weights' shapes differ by the number of features, which is then what is said.
    """
    different = _other_features(model, other)
    alike = _described(model.encoder) == _described(other.encoder)
    misfits = list(_misfits(model.encoder.state_dict(), other.encoder.state_dict()))
    if misfits and not (alike and different):
        raise _other_architecture(where, "encoder", model.encoder, other.encoder, misfits)
    if different:
        problem = f"was trained on other features (model.preprocessor): {different}"
        raise UserError(where, problem, "give model.preprocessor the values that it was trained with")


def _other_features(model: Any, other: Any) -> str:
    """How the two differ in what they make of one sound, '' where in nothing.

    Other features would make sense of no weight, and nothing would say so.
    """
    import torch

    noise = torch.randn(1, 16000, generator=torch.Generator().manual_seed(1))
    features = []
    for each in (model, other):
        training = each.preprocessor.training
        each.preprocessor.eval()  # no dither
        with torch.no_grad():
            made, frames = each.preprocessor(input_signal=noise, length=torch.tensor([noise.shape[1]]))
        each.preprocessor.train(training)
        features.append(made[0, :, : int(frames)])
    here, there = features
    rates = [int(each.cfg.preprocessor.sample_rate) for each in (model, other)]
    if rates[0] == rates[1] and here.shape == there.shape and torch.allclose(here, there, rtol=1e-3, atol=1e-3):
        return ""
    different = _differences(model.cfg.preprocessor, other.cfg.preprocessor, {"dither", "pad_to"})
    return "; ".join(different) or "defaults differ"


def _copy_encoder(model: Any, other: Any, where: str, log: logging.Logger) -> None:
    """All of the encoder's state, the statistics of batch normalisation too."""
    model.encoder.load_state_dict(other.encoder.state_dict())
    changed = _differences(model.cfg.encoder, other.cfg.encoder, {"_target_"})
    if changed := [text for text in changed if "drop" not in text]:
        log.warning("%s: the encoder's weights fit, but its settings differ: %s", where, "; ".join(changed))


def _copy_decoder(model: Any, other: CtcModel, keep_rows: bool, where: str) -> str:
    labels, other_labels = [str(token) for token in model.decoder.vocabulary], list(other.vocabulary.tokens)
    same = labels == other_labels
    if not same and not keep_rows:
        return "new"
    state, own = other.model.decoder.state_dict(), model.decoder.state_dict()
    rows = {} if same else {name: state.pop(name, None) for name in list(own) if name.startswith(_OUTPUT)}
    misfits = list(_misfits({name: value for name, value in own.items() if name not in rows}, state))
    if misfits:
        raise _other_architecture(where, "decoder", model.decoder, other.model.decoder, misfits)
    if same:
        model.decoder.load_state_dict(state)
        return "kept"
    sizes = len(labels) + 1, len(other_labels) + 1
    if not rows or any(
        value is None or (len(own[name]), len(value)) != sizes or own[name].shape[1:] != value.shape[1:]
        for name, value in rows.items()
    ):
        problem = f"keep_decoder_rows: the output layers of {_described(other.model.decoder)} there and of"
        problem += f" {_described(model.decoder)} here have no rows of one width, a row each label"
        raise UserError(where, problem, "leave keep_decoder_rows out")
    place = {label: row for row, label in enumerate(other_labels)} | {None: len(other_labels)}  # None: the blank
    pairs = [(row, place[label]) for row, label in enumerate([*labels, None]) if label in place]
    for name, value in rows.items():
        own[name][[row for row, _ in pairs]] = value[[row for _, row in pairs]]
    model.decoder.load_state_dict(own | state)
    return f"kept {len(pairs)} of {sizes[0]} rows"


def _misfits(here: dict[str, Any], there: dict[str, Any]) -> Iterator[str]:
    """What does not fit of two states, in the order of the weights."""
    for name in here | there:
        if name not in there:
            yield f"{name} only here"
        elif name not in here:
            yield f"{name} only there"
        elif here[name].shape != there[name].shape:
            yield f"{name} is {tuple(here[name].shape)} here, {tuple(there[name].shape)} there"


def _other_architecture(where: str, part: str, here: Any, there: Any, misfits: list[str]) -> UserError:
    more = f"; and {len(misfits) - _SHOWN} more" if len(misfits) > _SHOWN else ""
    problem = f"another architecture: the {part} is a {_described(there)} there, a {_described(here)} here; "
    return UserError(where, problem + "; ".join(misfits[:_SHOWN]) + more, "name the spec that it was trained with")


def _described(module: Any) -> str:
    """Class, blocks and width."""
    text = type(module).__name__
    with suppress(UserError):  # a decoder, or an encoder whose blocks are not known
        text += f" of {len(parts_of(module).blocks)} blocks"
    width = getattr(module, "_feat_out", None) or getattr(module, "_feat_in", None)
    return f"{text}, {width} wide" if width else text


def _differences(here: Any, there: Any, ignored: set[str]) -> list[str]:
    """Where two configs have other values, 'key: a here, b there'; a key of one alone may be the other's default."""
    from omegaconf import OmegaConf

    flat = [dict(_leaves(OmegaConf.to_container(config, resolve=True))) for config in (here, there)]
    return [
        f"{key} {value} here, {flat[1][key]} there"
        for key, value in flat[0].items()
        if key in flat[1] and flat[1][key] != value and key not in ignored
    ]


def _leaves(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else None
    if items is None:
        yield path, data
        return
    for key, value in items:
        yield from _leaves(value, f"{path}.{key}" if path else str(key))
