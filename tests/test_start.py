"""Starting from another model: what is copied, what becomes of the decoder, and what is refused."""

import io
import logging
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hlas.errors import UserError
from hlas.models.training.build import build_model
from hlas.models.training.job import Start
from hlas.models.training.pretrained import pretrained_file
from hlas.models.training.start import check_frozen, start_from
from hlas.tokenizers import stage as tokenizer_stage
from train_kit import LOG, Lab, conformer, fit_job, params

ROWS = "decoder_layers.0.weight"


def built(lab: Lab, tokens: str = " abc", given: Any = None, seed: int = 7) -> Any:
    """An untrained model with other weights for every seed, the statistics of batch normalisation among them."""
    import torch

    torch.manual_seed(seed)
    model = build_model(fit_job(lab, given or params(), tokens), None)
    for name, buffer in model.encoder.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 2.0)
    return model


def saved(lab: Lab, name: str, model: Any) -> Path:
    path = lab.store / name
    model.save_to(str(path))
    return path


@pytest.fixture(scope="module")
def source(lab: Lab) -> tuple[Any, Path]:
    """A model with the labels ' abc', and its file."""
    model = built(lab, seed=1)
    return model, saved(lab, "source.nemo", model)


def same_states(a: Any, b: Any) -> bool:
    import torch

    states = a.state_dict(), b.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0] | states[1])


def test_all_of_a_model_with_the_same_labels_is_taken(lab: Lab, source: tuple[Any, Path]) -> None:
    model = built(lab)
    assert not same_states(model.encoder, source[0].encoder)
    assert start_from(model, Start(source[1]), LOG) == "kept"
    assert same_states(model.encoder, source[0].encoder)  # running_mean and running_var are in the state
    assert "encoder.0.mconv.2.running_mean" in source[0].encoder.state_dict()
    assert same_states(model.decoder, source[0].decoder)


@pytest.mark.parametrize("tokens", [" abd", "cba ", " abcd"])  # as many others, the same in another order, one more
def test_other_labels_get_a_new_decoder(lab: Lab, source: tuple[Any, Path], tokens: str) -> None:
    model = built(lab, tokens)
    before = {name: value.clone() for name, value in model.decoder.state_dict().items()}
    assert start_from(model, Start(source[1]), LOG) == "new"
    assert same_states(model.encoder, source[0].encoder)
    assert all(value.equal(before[name]) for name, value in model.decoder.state_dict().items())


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [("cba ", "kept 5 of 5 rows"), ("xcya", "kept 3 of 5 rows"), ("xyzuvw", "kept 1 of 7 rows")],  # the blank always
)
def test_rows_of_shared_labels_are_kept_by_name(lab: Lab, source: tuple[Any, Path], tokens: str, kept: str) -> None:
    import torch

    model = built(lab, tokens)
    before = {name: value.clone() for name, value in model.decoder.state_dict().items()}
    assert start_from(model, Start(source[1], keep_rows=True), LOG) == kept
    for name, theirs in source[0].decoder.state_dict().items():
        ours = model.decoder.state_dict()[name]
        assert torch.equal(ours[-1], theirs[-1])
        for row, token in enumerate(tokens):
            expected = theirs[" abc".index(token)] if token in " abc" else before[name][row]
            assert torch.equal(ours[row], expected)


def test_a_recurrent_decoder_keeps_its_rows_with_its_layers(lab: Lab) -> None:
    given = params()
    given.model["decoder"] = {
        "_target_": "hlas.models.modules.lstm_decoder.LstmCtcDecoder",
        "feat_in": 16,
        "hidden": 8,
        "layers": 1,
    }
    model = built(lab, seed=1, given=given)
    path = saved(lab, "lstm.nemo", model)
    other = built(lab, "cab", given)
    assert start_from(other, Start(path, keep_rows=True), LOG) == "kept 4 of 4 rows"
    assert same_states(other.decoder.onward, model.decoder.onward)
    assert other.decoder.state_dict()[ROWS][0].equal(model.decoder.state_dict()[ROWS][3])
    with pytest.raises(UserError, match=r"the decoder is a LstmCtcDecoder.* there, a ConvASRDecoder.* here; onward"):
        start_from(built(lab, "cab"), Start(path, keep_rows=True), LOG)


def test_another_architecture_is_told_apart(lab: Lab, source: tuple[Any, Path]) -> None:
    wider = params()
    for block in wider.model["encoder"]["jasper"]:
        block["filters"] = 24
    wider.model["decoder"]["feat_in"] = 24
    with pytest.raises(UserError, match=r"1 blocks, 16 wide there, .* 24 wide here; encoder.0.* and \d+ more"):
        start_from(built(lab, given=wider), Start(source[1]), LOG)
    other = r"ConvASREncoder of .* there, a ConformerEncoder of 2 blocks, 16 wide here(.|\n)*name the spec that"
    with pytest.raises(UserError, match=other):  # its other features, too, are those of the other spec
        start_from(built(lab, given=conformer()), Start(source[1]), LOG)


def test_settings_that_no_shape_shows_are_told(
    lab: Lab, source: tuple[Any, Path], caplog: pytest.LogCaptureFixture
) -> None:
    given = params()
    given.model["encoder"]["jasper"][1] |= {"stride": [1], "dropout": 0.5}
    with caplog.at_level(logging.WARNING, "hlas"):
        start_from(built(lab, given=given), Start(source[1]), LOG)
    (record,) = caplog.records
    assert record.getMessage().endswith("settings differ: jasper.1.stride.0 1 here, 2 there")


def test_other_features_are_refused(lab: Lab, source: tuple[Any, Path]) -> None:
    given = params()
    given.model["preprocessor"] |= {"window_size": 0.025, "dither": 0.1, "pad_to": 4}
    with pytest.raises(UserError, match=r"other features \(model.preprocessor\): window_size 0.025 here, 0.02 there\n"):
        start_from(built(lab, given=given), Start(source[1]), LOG)
    more = params()
    more.model["preprocessor"]["features"] = more.model["encoder"]["feat_in"] = 80
    with pytest.raises(UserError, match=r"other features \(model.preprocessor\): features 80 here, 64 there\n"):
        start_from(built(lab, given=more), Start(source[1]), LOG)
    given.model["preprocessor"]["window_size"] = 0.02
    assert start_from(built(lab, given=given), Start(source[1]), LOG) == "kept"  # neither of the two is heard


def test_what_is_no_ctc_model_is_refused(lab: Lab, tmp_path: Path) -> None:
    import torch

    model = built(lab)
    checkpoint = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}}, checkpoint)
    named_nemo = checkpoint.rename(tmp_path / "weights.nemo")
    for path in (checkpoint, named_nemo):
        with pytest.raises(UserError, match=r"a checkpoint, not a \.nemo file"):
            start_from(model, Start(path), LOG)
    with pytest.raises(UserError, match=r"a folder, not a \.nemo file"):
        start_from(model, Start(tmp_path), LOG)
    with pytest.raises(UserError, match="no such model file"):
        start_from(model, Start(tmp_path / "none.nemo"), LOG)


def test_what_is_no_archive_is_refused_without_a_look_inside(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "train-0123" / "model.nemo"
    path.parent.mkdir()
    path.write_text("not a model\n" * 200, encoding="utf-8")
    with pytest.raises(UserError, match=r"is no tar archive, and so no \.nemo file") as raised:
        start_from(built(lab), Start(path), LOG)
    assert raised.value.where == "init train-0123/model.nemo"


def test_a_transducer_is_refused(lab: Lab, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    from hlas.models.nemo_quiet import import_asr

    config = {key: params().model[key] for key in ("preprocessor", "encoder")} | {
        "labels": [" ", "a"],
        "model_defaults": {"enc_hidden": 16, "pred_hidden": 8, "joint_hidden": 8},
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "prednet": {"pred_hidden": 8, "pred_rnn_layers": 1},
            "vocab_size": 2,
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "jointnet": {"joint_hidden": 8, "activation": "relu", "encoder_hidden": 16, "pred_hidden": 8},
            "num_classes": 2,
            "vocabulary": [" ", "a"],
        },
        "decoding": {"strategy": "greedy_batch", "greedy": {"max_symbols": 3}},
        "loss": {"loss_name": "warprnnt_numba"},
    }
    transducer = import_asr().models.EncDecRNNTModel(cfg=OmegaConf.create(config))
    path = tmp_path / "transducer.nemo"
    transducer.save_to(str(path))
    with pytest.raises(UserError, match="EncDecRNNTModel is not a CTC model"):
        start_from(built(lab), Start(path), LOG)


class Touch:
    """A pickle that makes a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_foreign_file_runs_no_pickle_and_writes_nowhere_else(
    lab: Lab, source: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", raising=False)
    witness, outside, foreign = tmp_path / "was-run", tmp_path / "outside", tmp_path / "foreign.nemo"
    with tarfile.open(source[1]) as good, tarfile.open(foreign, "w") as bad:
        config = next(member for member in good.getmembers() if member.name.endswith("model_config.yaml"))
        bad.addfile(config, good.extractfile(config))
        for name, data in (("./model_weights.ckpt", pickle.dumps(Touch(witness))), (str(outside), b"")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            bad.addfile(member, io.BytesIO(data))
    with pytest.raises(UserError, match="not a NeMo model that can be restored"):
        start_from(built(lab), Start(foreign), LOG)
    assert not witness.exists()
    assert not outside.exists()


def test_weights_that_differ_from_their_checksum_are_refused(
    lab: Lab, source: tuple[Any, Path], tmp_path: Path
) -> None:
    """torch loads them without a word."""
    damaged = tmp_path / "damaged.nemo"
    with tarfile.open(source[1]) as good:
        weights = next(member for member in good.getmembers() if member.name.endswith(".ckpt"))
    data = bytearray(source[1].read_bytes())
    middle = weights.offset_data + weights.size // 2
    data[middle : middle + 40] = bytes(byte ^ 0xFF for byte in data[middle : middle + 40])
    damaged.write_bytes(data)
    with pytest.raises(UserError, match=r"can be restored: .*\.ckpt is damaged, in its .*/data/"):
        start_from(built(lab), Start(damaged), LOG)


def test_names_of_models_that_nemo_does_not_know(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nearest: stt_de_citrinet_1024(.|\n)*init: path/to/stt_de_citrinet_1023.nemo"):
        pretrained_file("stt_de_citrinet_1023")
    with pytest.raises(UserError, match="nearest: stt_ru_conformer_ctc_large, "):  # not another language's QuartzNet
        pretrained_file("stt_ru_quartznet15x5")
    with pytest.raises(UserError, match="a file, not a model's name"):
        pretrained_file(str(tmp_path / "model.nemo"))


def test_without_a_network_a_model_of_the_hub_is_to_be_brought_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"neither in NeMo's cache nor to be fetched(.|\n)*init: path/to/some\.nemo"):
        pretrained_file("nobody/some")


def test_a_model_in_nemos_cache_needs_no_network(
    lab: Lab, source: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    from hlas.models.nemo_quiet import import_asr

    monkeypatch.setenv("NEMO_CACHE_DIR", str(tmp_path))
    name = "stt_de_citrinet_1024"
    (info,) = (m for m in import_asr().models.EncDecCTCModelBPE.list_available_models() if name in m.location)
    from nemo.utils.model_utils import resolve_cache_dir

    file = Path(info.location).name
    key = hashlib.md5((info.location + info.description).encode()).hexdigest()
    cached = Path(resolve_cache_dir()) / file.removesuffix(".nemo") / key / file
    cached.parent.mkdir(parents=True)
    cached.write_bytes(source[1].read_bytes())
    model = built(lab)
    assert start_from(model, Start(pretrained=name), LOG) == "kept"
    assert same_states(model.encoder, source[0].encoder)


def test_a_whisper_encoder_starts_from_its_own_weights(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        d_model=384, encoder_layers=4, decoder_layers=4, encoder_attention_heads=6, decoder_attention_heads=6,
        encoder_ffn_dim=1536, decoder_ffn_dim=8, vocab_size=60, pad_token_id=1, bos_token_id=2, eos_token_id=3,
        decoder_start_token_id=2,
    )  # fmt: skip
    whisper = WhisperForConditionalGeneration(config)
    whisper.save_pretrained(tmp_path)
    for name in ("preprocessor_config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    monkeypatch.setenv("HLAS_WHISPER_HF_DIR", str(tmp_path))
    given = params()
    given.model["preprocessor"] = {"_target_": "hlas.models.modules.whisper_mel.WhisperLogMel", "sample_rate": 16000}
    given.model["encoder"] = {"_target_": "hlas.models.modules.whisper_encoder.WhisperEncoder", "size": "tiny"}
    given.model["decoder"]["feat_in"] = 384
    model = built(lab, given=given)
    check_frozen(model, Start(), "encoder", False)
    assert start_from(model, Start(), LOG) == "new"
    assert same_states(model.encoder.whisper, whisper.get_encoder())


def test_what_nothing_has_trained_is_not_frozen(lab: Lab, source: tuple[Any, Path]) -> None:
    model = built(lab)
    check_frozen(model, Start(), "none", False)
    check_frozen(model, Start(source[1]), "encoder", True)
    with pytest.raises(UserError, match="would keep random weights"):
        check_frozen(model, Start(), "encoder", False)
    with pytest.raises(UserError, match="would keep statistics of nothing"):
        check_frozen(model, Start(), "none", True)


def test_the_stage_says_what_became_of_the_decoder(
    lab: Lab, source: tuple[Any, Path], caplog: pytest.LogCaptureFixture
) -> None:
    same = lab.tokenizer(tokenizer_stage.Params("char"))
    with caplog.at_level(logging.INFO, "hlas"):
        assert lab.train("train-same", params(epochs=1), same, init=source[1])["decoder"] == "kept"
    assert f"train-same: init is {source[1]}" in caplog.messages  # an edge is named as the recipe has it
    other = lab.tokenizer(tokenizer_stage.Params("unigram", vocab_size=9))
    by_rows = replace(params(epochs=1), keep_decoder_rows=True)
    assert lab.train("train-other", params(epochs=1), other, init=source[1])["decoder"] == "new"
    assert lab.train("train-rows", by_rows, other, init=source[1])["decoder"] == "kept 4 of 10 rows"
