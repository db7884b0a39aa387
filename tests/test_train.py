"""Training: a tiny QuartzNet on tones that stand for letters, with NeMo and Lightning themselves."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from hlas.decode.logprobs import read_log_probs
from hlas.errors import UserError
from hlas.manifests.rows import Row, write_rows
from hlas.models import logprobs_stage
from hlas.models.targets import check_targets
from hlas.stage import Input, Summary
from hlas.tokenizers import stage as tokenizer_stage
from train_kit import RATE, Lab, curve, killed_in, params, spoken


@pytest.fixture(scope="module")
def trained(lab: Lab) -> tuple[Summary, Path]:
    """A character model after two epochs."""
    summary = lab.train("train-char", params(), lab.tokenizer(tokenizer_stage.Params("char")))
    return summary, lab.store / "train-char"


def test_training_leaves_a_model_a_curve_and_no_checkpoints(trained: tuple[Summary, Path]) -> None:
    summary, folder = trained
    assert (folder / "model.nemo").is_file()
    assert not (folder / "checkpoints").exists()
    (events,) = (folder / "tensorboard").glob("events.*")
    assert str(folder.parent).encode() not in events.read_bytes()  # a copied folder leads nowhere else
    assert [row["epoch"] for row in curve(folder)] == [0, 1]
    assert summary["best_dev_wer"] == min(row["dev_wer"] for row in curve(folder))
    assert summary["steps"] == 4
    assert 0 < summary["parameters"] < 50_000


def test_log_probs_are_distributions_that_do_not_depend_on_the_batch(lab: Lab, trained: tuple[Summary, Path]) -> None:
    model = trained[1] / "model.nemo"
    data = [lab.split("dev"), lab.split("train")]
    for name, batch_s in (("logprobs-1", 0.1), ("logprobs-2", 100.0)):
        stage = lab.stage(name, acoustic=Input(model), data=data)
        logprobs_stage.run(logprobs_stage.Params(dtype="float32", batch_s=batch_s), stage)
    one, many = (read_log_probs(lab.store / name, "train") for name in ("logprobs-1", "logprobs-2"))
    assert one.vocabulary.tokens == (" ", "a", "b", "c")
    assert one.vocabulary.frame_s == pytest.approx(0.04)
    assert [u.row.text for u in one.utterances][:2] == ["ab ca", "ba"]
    assert Path(lab.store / "logprobs-1" / one.utterances[0].row.audio_filepath).resolve().is_file()
    for a, b in zip(one.utterances, many.utterances, strict=True):
        assert a.frames == b.frames == pytest.approx(a.row.duration / 0.04, abs=2)
        frames_a = one.frames()[a.first_frame : a.first_frame + a.frames]
        frames_b = many.frames()[b.first_frame : b.first_frame + b.frames]
        np.testing.assert_allclose(np.exp(frames_a).sum(axis=1), 1.0, rtol=1e-4)
        np.testing.assert_allclose(frames_a, frames_b, atol=2e-3)


def test_an_interrupted_training_goes_on_from_its_last_epoch(lab: Lab) -> None:
    tokenizer = lab.tokenizer(tokenizer_stage.Params("char"))
    with killed_in(3):
        lab.train("train-resumed", params(epochs=4), tokenizer)
    folder = lab.store / "train-resumed"
    assert not (folder / "model.nemo").exists()
    first_losses = {row["epoch"]: row["train_loss"] for row in curve(folder)}
    summary = lab.train("train-resumed", params(epochs=4), tokenizer)
    assert [row["epoch"] for row in curve(folder)] == [0, 1, 2, 3]
    assert summary["steps"] == 8  # each epoch's steps once
    for epoch in (0, 1):
        assert curve(folder)[epoch]["train_loss"] == first_losses[epoch]


def test_subwords(lab: Lab) -> None:
    tokenizer = lab.tokenizer(tokenizer_stage.Params("bpe", vocab_size=9))
    lab.train("train-bpe", params(epochs=1), tokenizer)
    stage = lab.stage("logprobs-bpe", acoustic=Input(lab.store / "train-bpe" / "model.nemo"), data=[lab.split("dev")])
    logprobs_stage.run(logprobs_stage.Params(), stage)
    vocabulary = read_log_probs(stage.folder, "dev").vocabulary
    assert vocabulary.unit == "bpe"
    assert len(vocabulary.tokens) == 9
    assert vocabulary.tokens == tokenizer_stage.read_labels(tokenizer.path).tokens


def test_a_model_of_another_alphabet_is_refused(lab: Lab, trained: tuple[Summary, Path]) -> None:
    folder = lab.store / "foreign"
    folder.mkdir()
    soundfile.write(folder / "x.wav", spoken("abc"), RATE)
    write_rows(folder / "test.jsonl", [Row("x.wav", 0.5, "привет")])
    stage = lab.stage("logprobs-3", acoustic=Input(trained[1] / "model.nemo"), data=[Input(folder / "test.jsonl")])
    with pytest.raises(UserError, match="spell only 0 %"):
        logprobs_stage.run(logprobs_stage.Params(), stage)


def test_what_is_no_model_is_a_user_error(lab: Lab) -> None:
    broken = lab.store / "broken.nemo"
    broken.write_bytes(b"no tar")
    stage = lab.stage("logprobs-4", acoustic=Input(broken), data=[lab.split("dev")])
    with pytest.raises(UserError, match=r"broken\.nemo"):
        logprobs_stage.run(logprobs_stage.Params(), stage)


def test_targets_off_the_allow_list_are_named() -> None:
    check_targets({"model": {"encoder": {"_target_": "nemo.collections.asr.modules.ConvASREncoder"}}})
    with pytest.raises(ValueError, match=r"model\.x\[0\]\._target_: 'subprocess.run'"):
        check_targets({"model": {"x": [{"_target_": "subprocess.run"}]}})
