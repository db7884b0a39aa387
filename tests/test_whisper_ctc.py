"""Whisper's encoder under a CTC head: features and weights as transformers has them, nothing depends on the batch."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hlas.decode.logprobs import read_log_probs
from hlas.errors import UserError
from hlas.manifests.rows import Row, write_rows
from hlas.models import logprobs_stage, train_stage
from hlas.models.freezing import frozen_modules
from hlas.models.nemo_ctc import CtcModel
from hlas.models.nemo_quiet import import_asr
from hlas.models.targets import check_targets
from hlas.models.training.options import KeepOutputs
from hlas.params import resolve_all
from hlas.paths import project_root
from hlas.stage import Input, Stage
from hlas.tokenizers import stage as tokenizer_stage
from hlas.yamls import read_extended

RATE = 16000
MODULES = "hlas.models.modules"
LABELS = list(" abc")


@pytest.fixture(scope="module")
def torch() -> Any:
    """torch, after NeMo has been imported quietly."""
    import_asr()
    import torch

    return torch


def clips(*seconds: float) -> list[np.ndarray]:
    """Noise whose loudness rises and falls."""
    rng = np.random.default_rng(1)
    lengths = [int(s * RATE) for s in seconds]
    return [(0.1 * rng.standard_normal(n) * np.hanning(n + 2)[1:-1]).astype(np.float32) for n in lengths]


def padded(torch: Any, arrays: Sequence[np.ndarray], more: int = 0) -> tuple[Any, Any]:
    """Signals (B, samples) with noise where a clip has ended, and lengths."""
    lengths = torch.tensor([len(a) for a in arrays])
    signal = 0.05 * torch.randn(len(arrays), int(lengths.max()) + more)
    for row, array in zip(signal, arrays, strict=True):
        row[: len(array)] = torch.from_numpy(array)
    return signal, lengths


def encoder(torch: Any, **options: Any) -> Any:
    from hlas.models.modules.whisper_encoder import WhisperEncoder

    torch.manual_seed(1)
    return WhisperEncoder("tiny", **options).eval()


@pytest.mark.parametrize("features", [80, 128])
def test_features_are_those_of_whispers_extractor(torch: Any, features: int) -> None:
    from transformers import WhisperFeatureExtractor

    from hlas.models.modules.whisper_mel import WhisperLogMel

    arrays = [*clips(0.005, 1.0, 2.5031, 7.77), np.zeros(4000, dtype=np.float32)]
    signal, lengths = padded(torch, arrays, more=333)
    ours, frames = WhisperLogMel(features=features)(input_signal=signal, length=lengths)
    theirs = WhisperFeatureExtractor(feature_size=features)(arrays, sampling_rate=RATE, return_tensors="pt")
    assert frames.tolist() == [-(-len(a) // 160) for a in arrays]
    for own, reference, count in zip(ours, theirs["input_features"], frames.tolist(), strict=True):
        np.testing.assert_allclose(own[:, :count], reference[:, :count], atol=1e-4)
        assert not own[:, count:].any()


def test_features_of_another_rate_are_refused(torch: Any) -> None:
    from hlas.models.modules.whisper_mel import WhisperLogMel

    with pytest.raises(ValueError, match="16000"):
        WhisperLogMel(sample_rate=8000)


def test_the_encoder_is_whispers_on_30_s(torch: Any) -> None:
    ours = encoder(torch)
    features = torch.randn(1, 80, 3000)
    with torch.inference_mode():
        outputs, frames = ours(audio_signal=features, length=torch.tensor([3000]))
        theirs = ours.whisper(features).last_hidden_state
    assert frames.tolist() == [1500]
    np.testing.assert_allclose(outputs.transpose(1, 2), theirs, atol=1e-4)


@pytest.mark.parametrize("pool", [1, 2, 3])
def test_padding_changes_no_clips_outputs(torch: Any, pool: int) -> None:
    ours = encoder(torch, layers=[1, 3, 4], pool=pool)
    lengths = torch.tensor([301, 100, 1, 2])
    features = torch.randn(4, 80, 320)
    with torch.inference_mode():
        outputs, frames = ours(audio_signal=features, length=lengths)
        assert outputs.shape == (4, 3 * 384, -(-151 // pool))
        assert frames.tolist() == [-(-n // pool) for n in (151, 50, 1, 1)]
        for i, length in enumerate(lengths.tolist()):
            alone, _ = ours(audio_signal=features[i : i + 1, :, :length], length=lengths[i : i + 1])
            np.testing.assert_allclose(outputs[i, :, : frames[i]], alone[0], atol=1e-4)
            assert not outputs[i, :, frames[i] :].any()


def test_the_parts_make_the_whole(torch: Any) -> None:
    ours = encoder(torch, layers=[2, 4])
    features, lengths = torch.randn(2, 80, 90), torch.tensor([90, 40])
    with torch.inference_mode():
        whole, frames = ours(audio_signal=features, length=lengths)
    for last_layers, kept_layers in ((0, 2), (1, 2), (2, 1), (3, 1), (4, 1)):
        with torch.inference_mode():
            kept, kept_frames = ours.lower(features, lengths, last_layers)
        assert kept.shape == (2, kept_layers * 384, 45)
        ours.zero_grad()
        outputs, same_frames = ours.upper(kept.clone(), kept_frames, last_layers)
        assert frames.tolist() == kept_frames.tolist() == same_frames.tolist()
        np.testing.assert_allclose(outputs.detach(), whole, atol=1e-5)
        if last_layers:
            outputs.square().sum().backward()
            frozen = {
                p for m in frozen_modules(ours, {"encoder_except_last": last_layers}) for p in m.parameters(False)
            }
            assert all((p.grad is None) == (p in frozen) for p in ours.parameters())


def test_what_the_encoder_cannot_do_is_said(torch: Any) -> None:
    with pytest.raises(UserError, match="did you mean 'base'"):
        from hlas.models.modules.whisper_encoder import WhisperEncoder

        WhisperEncoder("bases")
    with pytest.raises(UserError, match="1 to 4"):
        encoder(torch, layers=[0, 4])
    ours = encoder(torch)
    with pytest.raises(UserError, match=r"30\.0 s|30 s"):
        ours(audio_signal=torch.randn(1, 80, 3001), length=torch.tensor([3001]))
    with pytest.raises(UserError, match="128 features, where this Whisper needs 80"):
        ours(audio_signal=torch.randn(1, 128, 30), length=torch.tensor([30]))
    with pytest.raises(UserError, match="0 to 4"):
        ours.lower(torch.randn(1, 80, 30), torch.tensor([30]), last_layers=5)


@pytest.fixture(scope="module")
def checkpoints(torch: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """`checkpoints(layers)` is a transformers folder of Whisper tiny's width, with random weights."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    folder = tmp_path_factory.mktemp("checkpoints")

    def saved(layers: int) -> Path:
        heads = {"encoder_attention_heads": 6, "decoder_attention_heads": 6}
        ends = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0}
        shape = {"vocab_size": 20, "d_model": 384, "encoder_layers": layers, "decoder_layers": 4}
        torch.manual_seed(2)
        model = WhisperForConditionalGeneration(
            WhisperConfig(**shape, **heads, **ends, encoder_ffn_dim=1536, decoder_ffn_dim=32)
        )
        model.save_pretrained(folder / str(layers))
        for name in ("tokenizer.json", "preprocessor_config.json"):
            (folder / str(layers) / name).write_text("{}")
        return folder / str(layers)

    return saved


def test_pretrained_weights_come_from_a_transformers_folder(
    torch: Any, checkpoints: Callable[[int], Path], tmp_path: Path
) -> None:
    from transformers import WhisperForConditionalGeneration

    ours = encoder(torch)
    ours.load_pretrained(checkpoints(4))
    theirs = WhisperForConditionalGeneration.from_pretrained(checkpoints(4))
    for own, reference in zip(ours.parameters(), theirs.model.encoder.parameters(), strict=True):
        assert torch.equal(own, reference)
    with pytest.raises(UserError, match="not the weights of a Whisper tiny"):
        ours.load_pretrained(checkpoints(3))
    with pytest.raises(UserError, match="cannot be read"):
        ours.load_pretrained(tmp_path)


def test_the_recurrent_head_does_not_hear_padding(torch: Any) -> None:
    from hlas.models.modules.lstm_decoder import LstmCtcDecoder

    torch.manual_seed(1)
    head = LstmCtcDecoder(feat_in=12, num_classes=3, hidden=8, layers=2, vocabulary=["a", "b", "c"]).eval()
    assert (head.num_classes_with_blank, list(head.vocabulary)) == (4, ["a", "b", "c"])
    encoded = torch.randn(3, 12, 9)
    encoded[:, :, 3] = 0.0  # a frame that SpecAugment has masked ends no clip
    encoded[1, :, 5:] = 0.0
    encoded[2] = 0.0
    with torch.inference_mode():
        together = head(encoder_output=encoded)
        alone = head(encoder_output=encoded[1:2, :, :5])
    assert together.shape == (3, 9, 4)
    np.testing.assert_allclose(together[1, :5], alone[0], atol=1e-6)
    np.testing.assert_allclose(together.exp().sum(dim=2), 1.0, rtol=1e-5)


def model_config(**changes: Any) -> dict[str, Any]:
    """whisper_ctc cut down to Whisper tiny and a small head."""
    config: dict[str, Any] = {
        "sample_rate": RATE,
        "labels": LABELS,
        "preprocessor": {"_target_": f"{MODULES}.whisper_mel.WhisperLogMel"},
        "encoder": {
            "_target_": f"{MODULES}.whisper_encoder.WhisperEncoder",
            "size": "tiny",
            "layers": [3, 4],
            "pretrained": False,
        },
        "decoder": {
            "_target_": f"{MODULES}.lstm_decoder.LstmCtcDecoder",
            "feat_in": 768,
            "hidden": 8,
            "num_classes": len(LABELS),
            "vocabulary": LABELS,
        },
        "optim": {"name": "adamw", "lr": 0.001},
    }
    config["preprocessor"] |= {"sample_rate": RATE, "window_size": 0.025, "window_stride": 0.01, "features": 80}
    return config | changes


@pytest.fixture(scope="module")
def model(torch: Any) -> Any:
    """A NeMo model with random weights."""
    from omegaconf import OmegaConf

    torch.manual_seed(1)
    return import_asr().models.EncDecCTCModel(cfg=OmegaConf.create(model_config())).eval()


def test_a_nemo_model_of_it_is_saved_restored_and_relabelled(torch: Any, model: Any, tmp_path: Path) -> None:
    audio = clips(1.0, 3.0, 2.0)
    together = CtcModel.wrap(model, "cpu").log_probs(audio)
    model.save_to(str(tmp_path / "model.nemo"))
    restored = CtcModel.load(tmp_path / "model.nemo", "cpu")
    assert restored.vocabulary.frame_s == pytest.approx(0.02)
    assert restored.vocabulary.tokens == tuple(LABELS)
    for one, many in zip((restored.log_probs([a])[0] for a in audio), together, strict=True):
        assert one.shape == many.shape
        np.testing.assert_allclose(one, many, atol=1e-4)
    head = restored.model.decoder.onward[0].weight_ih_l0
    restored.model.change_vocabulary(new_vocabulary=[*LABELS, "d"])
    assert restored.model.decoder.num_classes_with_blank == 6
    assert restored.model.decoder.onward[0].weight_ih_l0.shape == head.shape


@pytest.mark.parametrize("freeze", ["encoder", {"encoder_except_last": 1}])
def test_the_shipped_spec_trains_its_head_on_kept_outputs(
    torch: Any, checkpoints: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, freeze: Any
) -> None:
    monkeypatch.setenv("HLAS_WHISPER_HF_DIR", str(checkpoints(4)))
    data, _ = resolve_all(read_extended(project_root() / "models/whisper_ctc.yaml").data, {})
    model = data.pop("model")
    model["encoder"] |= {"size": "tiny", "layers": [3, 4]}
    model["decoder"] |= {"hidden": 8}
    model["train_ds"]["batch_size"] = 2
    trainer = {"max_epochs": 2, "accelerator": "cpu"}
    params = train_stage.Params(
        model, trainer, freeze=freeze, keep_outputs=KeepOutputs(tuple(data["keep_outputs"]["speeds"]))
    )
    for split, texts in (("train", ("ab c", "ba", "cab")), ("dev", ("abc", "b a"))):
        rows = []
        for i, (text, audio) in enumerate(zip(texts, clips(2.0, 1.0, 1.5), strict=False)):
            soundfile.write(tmp_path / f"{split}{i}.wav", audio, RATE)
            rows.append(Row(f"{split}{i}.wav", len(audio) / RATE, text))
        write_rows(tmp_path / f"{split}.jsonl", rows)
    split = {name: (Input(tmp_path / f"{name}.jsonl", "manifests", name),) for name in ("train", "dev")}

    def stage(name: str, **inputs: Any) -> Stage:
        (tmp_path / name).mkdir()
        return Stage(name, name, tmp_path / name, inputs, None, logging.getLogger("hlas"), workers=1)

    tokenizer = stage("tokenizer", text=split["train"])
    tokenizer_stage.run(tokenizer_stage.Params("char"), tokenizer)
    summary = train_stage.run(params, stage("train", **split, tokenizer=(Input(tokenizer.folder, "tokenizer"),)))
    assert (summary["epochs"], summary["steps"]) == (2, 4)
    assert summary["pretrained"] is True  # the report says that what it heard before is not known
    head = 2 * (768 * 32 + 8 * 32 + 64) + 2 * (16 * 32 + 8 * 32 + 64) + 17 * 5
    layer = 4 * 384 * 384 + 3 * 384 + 2 * 384 * 1536 + 1536 + 384 + 4 * 384
    assert summary["trainable"] == head + (0 if freeze == "encoder" else layer + 2 * 384)
    assert not (tmp_path / "train" / "kept").exists()
    for name, batch_s in (("one", 0.1), ("many", 100.0)):
        inputs = {"acoustic": (Input(tmp_path / "train" / "model.nemo"),), "data": (*split["dev"], *split["train"])}
        logprobs_stage.run(logprobs_stage.Params(dtype="float32", batch_s=batch_s), stage(name, **inputs))
    one, many = (read_log_probs(tmp_path / name, "train") for name in ("one", "many"))
    assert one.vocabulary.frame_s == pytest.approx(0.04)
    np.testing.assert_allclose(one.frames(), many.frames(), atol=2e-3)
    restored = CtcModel.load(tmp_path / "train" / "model.nemo", "cpu").model.encoder.state_dict()
    given = encoder(torch)
    given.load_pretrained(checkpoints(4))
    changed = {name for name, value in given.state_dict().items() if not torch.equal(value, restored[name])}
    assert bool(changed) == (freeze != "encoder")
    assert all(name.startswith(("whisper.layers.3.", "whisper.layer_norm.")) for name in changed)


def test_a_yaml_may_name_our_modules_and_no_other_code() -> None:
    check_targets({"model": model_config()})
    for bad in ("hlas.files.write_json", "hlas.models.modules.os.system", "hlas.models.modules.x.Y.Z", "os.system"):
        with pytest.raises(ValueError, match="not allowed"):
            check_targets({"encoder": {"_target_": bad}})
