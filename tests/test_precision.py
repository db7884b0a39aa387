"""Training in 32 bits and in mixed precision: what is saved and resumed, and a dev WER that is the stages' own."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from hlas.decode import stage as decode_stage
from hlas.decode.tune import error_rates
from hlas.errors import UserError
from hlas.manifests.rows import read_hypotheses
from hlas.manifests.text import Language
from hlas.models import logprobs_stage
from hlas.models.nemo_ctc import CtcModel
from hlas.models.train_stage import Params
from hlas.models.training.build import precision_of
from hlas.models.training.options import KeepOutputs
from hlas.params import resolve_all
from hlas.paths import project_root
from hlas.stage import Input
from hlas.yamls import read_extended
from train_kit import MORE_DEV, Lab, curve, killed_in, make_lab, params, write_whisper


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("store"), MORE_DEV)


def weights(folder: Path) -> dict[str, Any]:
    return dict(CtcModel.load(folder / "model.nemo", "cpu").model.state_dict())


def test_a_bf16_training_has_finite_losses_and_float32_weights_and_resumes(lab: Lab, tokenizer: Input) -> None:
    import torch

    given = replace(params(epochs=2), precision="bf16-mixed")
    summary = lab.train("train-bf16", given, tokenizer)
    with killed_in(2):
        lab.train("train-bf16-killed", given, tokenizer)
    lab.train("train-bf16-killed", given, tokenizer)
    assert summary["precision"] == "bf16-mixed"
    whole, resumed = (curve(lab.store / name) for name in ("train-bf16", "train-bf16-killed"))
    losses = [[(row["train_loss"], row["dev_loss"]) for row in rows] for rows in (whole, resumed)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2
    assert all(math.isfinite(loss) for pair in losses[0] for loss in pair)
    one, other = (weights(lab.store / name) for name in ("train-bf16", "train-bf16-killed"))
    assert {tensor.dtype for tensor in one.values()} == {torch.float32, torch.int64}  # batches are counted in int64
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_bf16_is_what_it_computes_in(lab: Lab, tokenizer: Input) -> None:
    """The same training in 32 bits has other losses, by about bf16's 3 significant digits."""
    lab.train("train-32", replace(params(epochs=2), precision="32"), tokenizer)
    lab.train("train-mixed", replace(params(epochs=2), precision="bf16-mixed"), tokenizer)
    exact, mixed = ([row["train_loss"] for row in curve(lab.store / name)] for name in ("train-32", "train-mixed"))
    assert exact != mixed
    assert mixed == pytest.approx(exact, rel=0.02)


def whisper_ctc(precision: Literal["32", "bf16-mixed"]) -> Params:
    """whisper_ctc on a Whisper of tiny's width under a head of 32 units, heard every fifth epoch."""
    data, _ = resolve_all(read_extended(project_root() / "models/whisper_ctc.yaml").data, {})
    model = data["model"]
    model["encoder"] |= {"size": "tiny", "layers": [2, 4]}
    model["decoder"] |= {"hidden": 32, "layers": 1, "dropout": 0.0}
    model["train_ds"]["batch_size"] = 2
    model["optim"] |= {"lr": 0.02}
    trainer = {"max_epochs": 20, "check_val_every_n_epoch": 5, "accelerator": "cpu"}
    return Params(model, trainer, precision=precision, seed=3, freeze="encoder", keep_outputs=KeepOutputs())


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_the_curves_dev_wer_is_that_of_the_stages(
    lab: Lab, tokenizer: Input, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    """In bf16 the curve's labels are the best of log-probs with 3 digits, of which two can be equal or change places.

    The logprobs stage computes in 32 bits; so a label here and there may differ, but no more than one word's.
    """
    write_whisper(tmp_path)
    monkeypatch.setenv("HLAS_WHISPER_HF_DIR", str(tmp_path))
    summary = lab.train(f"train-whisper-{precision}", whisper_ctc(precision), tokenizer)
    acoustic = Input(lab.store / f"train-whisper-{precision}" / "model.nemo")
    logprobs = lab.stage(f"logprobs-{precision}", acoustic=acoustic, data=[lab.split("dev")])
    logprobs_stage.run(logprobs_stage.Params(), logprobs)
    decode = lab.stage(f"decode-{precision}", logprobs=Input(logprobs.folder))
    decode_stage.run(decode_stage.Params(), replace(decode, language=Language("xx", "tones", tuple("abc"))))
    heard = [hypothesis.pred_text for hypothesis in read_hypotheses(decode.folder / "dev.jsonl")]
    rates = error_rates(MORE_DEV, heard)
    assert 0 < rates.wer < 1  # else this compares nothing with nothing
    words = sum(len(text.split()) for text in MORE_DEV)
    tolerance = 1e-5 if precision == "32" else 1 / words
    assert summary["best_dev_wer"] == pytest.approx(rates.wer, abs=tolerance)


def test_fp16_on_a_cpu_is_refused_as_lightning_would_take_bf16(
    lab: Lab, tokenizer: Input, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no GPU to train on, and on a CPU Lightning would take bf16-mixed"):
        lab.train("train-fp16", replace(params(), precision="16-mixed"), tokenizer)
    assert [precision_of(wanted) for wanted in ("auto", "32", "bf16-mixed")] == ["32-true", "32", "bf16-mixed"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert [precision_of("auto"), precision_of("16-mixed"), precision_of("auto", "cpu")] == ["16-mixed"] * 2 + [
        "32-true"
    ]
    with pytest.raises(UserError, match="no GPU to train on"):
        precision_of("16-mixed", "cpu")
