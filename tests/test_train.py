"""Training: a tiny QuartzNet on tones that stand for letters, with NeMo and Lightning themselves."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hlas.decode.logprobs import read_log_probs
from hlas.errors import UserError
from hlas.manifests.rows import Row, write_rows
from hlas.models import logprobs_stage, train_stage
from hlas.models.targets import check_targets
from hlas.params import resolve_all
from hlas.paths import project_root
from hlas.stage import Input, Stage, Summary
from hlas.tokenizers import stage as tokenizer_stage
from hlas.yamls import read_extended

RATE = 16000
TONES_HZ = {"a": 400.0, "b": 900.0, "c": 1600.0, " ": 0.0}
LOG = logging.getLogger("hlas")


def spoken(text: str) -> np.ndarray:
    """Each letter is 0.12 s of its tone, then 0.04 s of silence."""
    rng = np.random.default_rng(len(text))
    parts = []
    for letter in text:
        time = np.arange(int(0.12 * RATE)) / RATE
        parts += [0.3 * np.sin(2 * np.pi * TONES_HZ[letter] * time), np.zeros(int(0.04 * RATE))]
    signal = np.concatenate(parts)
    return (signal + 0.003 * rng.standard_normal(len(signal))).astype(np.float32)


def write_split(folder: Path, split: str, texts: list[str]) -> None:
    rows = []
    for i, text in enumerate(texts):
        soundfile.write(folder / f"{split}{i}.wav", spoken(text), RATE)
        rows.append(Row(f"{split}{i}.wav", len(spoken(text)) / RATE, text))
    write_rows(folder / f"{split}.jsonl", rows)


@dataclass(frozen=True)
class Lab:
    """A store with one corpus and tokenizers."""

    store: Path

    def stage(self, name: str, **inputs: Input | list[Input]) -> Stage:
        folder = self.store / name
        folder.mkdir(exist_ok=True)
        listed = {k: tuple(v) if isinstance(v, list) else (v,) for k, v in inputs.items()}
        return Stage(name, name.partition("-")[0], folder, listed, None, LOG, workers=1)

    def split(self, name: str) -> Input:
        return Input(self.store / "manifests" / f"{name}.jsonl", "manifests", name)

    def tokenizer(self, params: tokenizer_stage.Params) -> Input:
        stage = self.stage(f"tokenizer-{params.type}", text=[self.split("train")])
        tokenizer_stage.run(params, stage)
        return Input(stage.folder, "tokenizer")

    def train(self, name: str, params: train_stage.Params, tokenizer: Input, init: Path | None = None) -> Summary:
        inputs: dict[str, Any] = {"train": self.split("train"), "dev": self.split("dev"), "tokenizer": tokenizer}
        if init:
            inputs["init"] = Input(init)
        return train_stage.run(params, self.stage(name, **inputs))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    store = tmp_path_factory.mktemp("store")
    (store / "manifests").mkdir()
    write_split(store / "manifests", "train", ["ab ca", "ba", "c ab", "bca a", "cab ba", "a b c", "abcab", "ca ba"])
    write_split(store / "manifests", "dev", ["ba ca", "abc"])
    return Lab(store)


def params(epochs: int = 2, **trainer: Any) -> train_stage.Params:
    """quartznet_mini with 16 channels and two blocks."""
    data, _ = resolve_all(read_extended(project_root() / "models/quartznet_mini.yaml").data, {})
    model = data["model"]
    blocks = [model["encoder"]["jasper"][i] | {"filters": 16, "kernel": [5]} for i in (0, 1, 2)]
    model["encoder"]["jasper"] = blocks
    model["decoder"]["feat_in"] = 16
    model["train_ds"]["batch_size"] = 4
    return train_stage.Params(model, {"max_epochs": epochs, **trainer}, seed=3)


@pytest.fixture(scope="module")
def trained(lab: Lab) -> tuple[Summary, Path]:
    """A character model after two epochs."""
    summary = lab.train("train-char", params(), lab.tokenizer(tokenizer_stage.Params("char")))
    return summary, lab.store / "train-char"


def curve(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()]


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

    class Kill(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("epoch 3 of 4"):
                raise MemoryError("killed")

    kill = Kill()
    level = LOG.level
    LOG.setLevel(logging.INFO)
    LOG.addHandler(kill)
    try:
        with pytest.raises(MemoryError, match="killed"):
            lab.train("train-resumed", params(epochs=4), tokenizer)
    finally:
        LOG.removeHandler(kill)
        LOG.setLevel(level)
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


def test_starting_from_a_model_keeps_its_decoder_only_with_the_same_labels(
    lab: Lab, trained: tuple[Summary, Path]
) -> None:
    start = trained[1] / "model.nemo"
    same = lab.tokenizer(tokenizer_stage.Params("char"))
    assert trained[0]["decoder"] == "new"
    assert lab.train("train-same", params(epochs=1), same, init=start)["decoder"] == "kept"
    other = lab.tokenizer(tokenizer_stage.Params("unigram", vocab_size=9))
    assert lab.train("train-other", params(epochs=1), other, init=start)["decoder"] == "new"
    wider = params(epochs=1)
    for block in wider.model["encoder"]["jasper"]:
        block["filters"] = 24
    wider.model["decoder"]["feat_in"] = 24
    with pytest.raises(UserError, match="another architecture"):
        lab.train("train-wider", wider, same, init=start)


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


PARAMETERS = {  # millions, with 28 labels: as the papers and NeMo's model cards have them, but for the labels
    "quartznet_mini": 0.53,
    "quartznet_5x5": 6.7,
    "quartznet_10x5": 12.8,
    "quartznet_15x5": 18.9,
    "jasper_10x5": 333,
    "citrinet_256": 9.8,
    "citrinet_512": 36.5,
    "citrinet_1024": 142,
    "conformer_ctc_s": 13.0,
    "conformer_ctc_m": 30.5,
    "conformer_ctc_l": 121.5,
    "fastconformer_ctc_s": 12.6,
    "fastconformer_ctc_m": 26.1,
    "fastconformer_ctc_l": 115,
}


def test_every_shipped_model_has_its_parameters_counted() -> None:
    specs = {spec.stem for spec in (project_root() / "models").glob("*.yaml")}
    assert specs - set(PARAMETERS) == {"whisper_base"}
    readme = (project_root() / "models" / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}.yaml`" in readme for name in specs)


@pytest.mark.parametrize(("name", "millions"), PARAMETERS.items())
def test_shipped_models_build_with_the_parameters_of_the_paper(name: str, millions: float) -> None:
    import torch

    from hlas.models.nemo_quiet import import_asr

    import_asr()
    from nemo.collections.asr.models import EncDecCTCModel

    data, problem = resolve_all(read_extended(project_root() / f"models/{name}.yaml").data, {})
    assert not problem
    check_targets(data)
    decoder = data["model"]["decoder"] | {"num_classes": 28, "vocabulary": [" ", *"abcdefghijklmnopqrstuvwxyz'"]}
    # shapes without memory, as Jasper would take a gigabyte; a Conformer computes with its weights as it is built
    with torch.device("meta" if "jasper" in data["model"]["encoder"] else "cpu"):
        parts = [EncDecCTCModel.from_config_dict(config) for config in (data["model"]["encoder"], decoder)]
    count = sum(p.numel() for part in parts for p in part.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.03)
