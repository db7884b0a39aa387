"""Training on kept encoder outputs: the same weights as computing them in every epoch, and what cannot be kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hlas.errors import UserError
from hlas.models import train_stage
from hlas.models.training.options import KeepOutputs
from hlas.stage import Input, Summary
from train_kit import Lab, conformer, curve, params


@pytest.fixture(scope="module")
def start(lab: Lab, tokenizer: Input) -> Path:
    lab.train("train-start", params(epochs=1), tokenizer)
    return lab.store / "train-start" / "model.nemo"


def frozen(keep: KeepOutputs | None = None) -> train_stage.Params:
    """Only the decoder is trained; no dither and no SpecAugment, so that both ways see the same numbers."""
    given = params(epochs=2)
    model: dict[str, Any] = {**given.model, "spec_augment": None}
    model["preprocessor"] = model["preprocessor"] | {"dither": 0.0}
    return replace(given, model=model, freeze="encoder", keep_outputs=keep)


@pytest.fixture(scope="module")
def kept(lab: Lab, tokenizer: Input, start: Path) -> Summary:
    """The training `train-kept`, on outputs at their own speed."""
    return lab.train("train-kept", frozen(KeepOutputs()), tokenizer, init=start)


def weights(path: Path) -> dict[str, Any]:
    from hlas.models.nemo_ctc import CtcModel

    state: dict[str, Any] = CtcModel.load(path, "cpu").model.state_dict()
    return state


def test_kept_outputs_train_the_same_weights(lab: Lab, tokenizer: Input, start: Path, kept: Summary) -> None:
    lab.train("train-computed", frozen(), tokenizer, init=start)
    computed, own = (weights(lab.store / name / "model.nemo") for name in ("train-computed", "train-kept"))
    assert list(computed) == list(own)
    assert all((computed[name] - own[name]).abs().max() < 1e-3 for name in computed)
    before = weights(start)
    moved = [name for name in own if not (own[name] == before[name]).all()]
    assert moved and all(name.startswith("decoder.") for name in moved)
    for one, other in zip(*(curve(lab.store / name) for name in ("train-computed", "train-kept")), strict=True):
        assert one["dev_wer"] == other["dev_wer"]
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=0.01)
    assert not (lab.store / "train-kept" / "kept").exists()
    assert 0 < kept["trainable"] < kept["parameters"]


def test_masks_in_time_hide_parts_of_a_conformers_kept_outputs(lab: Lab, tokenizer: Input) -> None:
    lab.train("train-conformer", conformer(epochs=1), tokenizer)
    losses = []
    for masks in (0, 5):
        given = conformer(epochs=1)
        given.model["spec_augment"] |= {"freq_masks": 0, "time_masks": masks, "time_width": 0.3}
        given.model["preprocessor"]["dither"] = 0.0
        given = replace(given, freeze="encoder", keep_outputs=KeepOutputs())
        name = f"train-conformer-{masks}"
        lab.train(name, given, tokenizer, init=lab.store / "train-conformer" / "model.nemo")
        losses.append(curve(lab.store / name)[0]["train_loss"])
    assert abs(losses[0] - losses[1]) > 0.001


def test_speeds_change_what_is_heard(lab: Lab, tokenizer: Input, start: Path, kept: Summary) -> None:
    lab.train("train-speeds", frozen(KeepOutputs((0.9, 1.0, 1.1))), tokenizer, init=start)
    one, other = (curve(lab.store / name)[0]["train_loss"] for name in ("train-kept", "train-speeds"))
    assert abs(one - other) > 0.01


def test_what_cannot_be_kept_is_told(lab: Lab, tokenizer: Input, start: Path) -> None:
    with pytest.raises(ValueError, match="keep_outputs keeps what a frozen encoder gives"):
        replace(frozen(KeepOutputs()), freeze="none")
    part = replace(frozen(KeepOutputs()), freeze={"encoder_except_last": 1})
    with pytest.raises(UserError, match="ConvASREncoder cannot be computed up to its last 1 blocks"):
        lab.train("train-part", part, tokenizer, init=start)
    loud = frozen(KeepOutputs())
    loud.model["train_ds"]["augmentor"] = {"gain": {"prob": 1.0, "min_gain_dbfs": -6.0, "max_gain_dbfs": 6.0}}
    with pytest.raises(UserError, match="before gain could change it"):
        lab.train("train-loud", loud, tokenizer, init=start)
