"""Kept outputs of a frozen encoder: what it computes, in NeMo's own steps, for any encoder."""

import logging
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hlas.errors import UserError
from hlas.files import read_json
from hlas.manifests.audio.files import load_utterance
from hlas.manifests.rows import Row
from hlas.models.nemo_quiet import import_asr

RATE = 16000
LABELS = list(" abc")
LOG = logging.getLogger("hlas")
MODULES = "nemo.collections.asr.modules"
MELS = {"_target_": f"{MODULES}.AudioToMelSpectrogramPreprocessor", "features": 64, "dither": 0.0, "pad_to": 0}
MELS |= {"sample_rate": RATE, "window_size": 0.02, "window_stride": 0.01}
OWN = "hlas.models.modules"
ENCODERS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "conv": (
        MELS,
        {
            "_target_": f"{MODULES}.ConvASREncoder",
            "feat_in": 64,
            "activation": "relu",
            "conv_mask": True,
            "jasper": [
                {"filters": 16, "repeat": 1, "kernel": [5], "stride": [2], "dilation": [1], "dropout": 0.0}
                | {"residual": False, "separable": True}
            ],
        },
        16,
    ),
    "conformer": (
        MELS,
        {"_target_": f"{MODULES}.ConformerEncoder", "feat_in": 64, "n_layers": 1, "d_model": 16, "n_heads": 2}
        | {"subsampling_factor": 4, "subsampling_conv_channels": 8, "dropout": 0.3},
        16,
    ),
    "whisper": (
        {"_target_": f"{OWN}.whisper_mel.WhisperLogMel", "sample_rate": RATE, "window_stride": 0.01, "features": 80},
        {"_target_": f"{OWN}.whisper_encoder.WhisperEncoder", "size": "tiny", "layers": [3, 4], "dropout": 0.3},
        768,
    ),
}


def build(kind: str) -> Any:
    """A NeMo model with random weights."""
    asr = import_asr()
    import torch
    from omegaconf import OmegaConf

    preprocessor, encoder, width = ENCODERS[kind]
    decoder = {"_target_": f"{MODULES}.ConvASRDecoder", "feat_in": width, "num_classes": 4, "vocabulary": LABELS}
    config = {"preprocessor": preprocessor, "encoder": encoder, "decoder": decoder, "labels": LABELS}
    torch.manual_seed(1)
    return asr.models.EncDecCTCModel(cfg=OmegaConf.create(config | {"optim": {"name": "adamw", "lr": 0.1}}))


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {kind: build(kind) for kind in ENCODERS}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    """A manifest's folder and its rows; the last clip is too long to be slowed down for Whisper."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(1)
    rows = []
    for i, seconds in enumerate((1.0, 3.1, 0.7, 29.0)):
        soundfile.write(folder / f"{i}.wav", 0.1 * rng.standard_normal(int(seconds * RATE)), RATE)
        rows.append(Row(f"{i}.wav", seconds, "ab"))
    return folder, rows


TOKENS = [[1, 2], [3, 0, 1], [2, 2], [1]]


def keep(model: Any, clips: tuple[Path, list[Row]], path: Path, **options: Any) -> Any:
    from hlas.models.training.kept_outputs import keep_outputs

    folder, rows = clips
    return keep_outputs(model, rows, folder, path, log=LOG, **options)


def frames_of(dataset: Any, item: int) -> int:
    return len(dataset[item][0])


@pytest.mark.parametrize("kind", ENCODERS)
def test_kept_outputs_give_the_log_probs_of_the_whole_model(
    models: dict[str, Any], clips: tuple[Path, list[Row]], tmp_path: Path, kind: str
) -> None:
    import torch

    from hlas.models.training.kept_outputs import can_keep, kept_encoder

    model = models[kind]
    model.train()
    dataset = keep(model, clips, tmp_path / "kept").dataset(TOKENS)
    assert model.training
    model.eval()
    names = list(model.state_dict())
    batch = dataset.collate_fn([dataset[i] for i in (1, 2, 0)])
    signal, frames, tokens, counts = batch[0], batch[1], batch[2], batch[3]
    assert batch.has_processed_signal
    assert (tokens.tolist(), counts.tolist()) == ([[3, 0, 1], [2, 2, 0], [1, 2, 0]], [3, 2, 2])
    assert frames.tolist() == [frames_of(dataset, i) for i in (1, 2, 0)]
    with torch.inference_mode(), kept_encoder(model):
        assert list(model.state_dict()) == names
        log_probs, lengths, _ = model(processed_signal=signal, processed_signal_length=frames)
    for i, row in enumerate((1, 2, 0)):
        audio = torch.from_numpy(load_utterance(clips[1][row], clips[0], RATE))[None]
        with torch.inference_mode():
            alone, count, _ = model(input_signal=audio, input_signal_length=torch.tensor([audio.shape[1]]))
        assert lengths[i] == count[0]
        np.testing.assert_allclose(log_probs[i, : count[0]], alone[0, : count[0]], atol=5e-3)  # float16
    assert can_keep(model.encoder, 0)
    assert can_keep(model.encoder, 1) == (kind == "whisper")


def test_the_last_layers_are_trained_on_what_is_kept_below_them(
    models: dict[str, Any], clips: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    from hlas.models.training.kept_outputs import kept_encoder

    model = models["whisper"]
    dataset = keep(model, clips, tmp_path / "kept", last_layers=1).dataset(TOKENS)
    model.eval()  # without dropout
    model.zero_grad()
    audio = [load_utterance(row, clips[0], RATE) for row in clips[1][:2]]
    losses = []
    for batch in (dataset.collate_fn([dataset[0], dataset[1]]), raw_batch(audio, TOKENS[:2])):
        if hasattr(batch, "has_processed_signal"):
            with kept_encoder(model, last_layers=1):
                _, loss = outputs_and_loss(model, batch, "processed_signal")
            loss.backward()
        else:
            _, loss = outputs_and_loss(model, batch, "input_signal")
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    touched = {name for name, p in model.encoder.named_parameters() if p.grad is not None}
    assert touched
    assert all(name.startswith(("whisper.layers.3.", "whisper.layer_norm.")) for name in touched)


def raw_batch(audio: list[np.ndarray], tokens: list[list[int]]) -> tuple[Any, ...]:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    return (
        pad_sequence([torch.from_numpy(a) for a in audio], batch_first=True),
        torch.tensor([len(a) for a in audio]),
        pad_sequence([torch.tensor(t) for t in tokens], batch_first=True),
        torch.tensor([len(t) for t in tokens]),
    )


def outputs_and_loss(model: Any, batch: Any, kind: str) -> tuple[Any, Any]:
    """As NeMo's training step does it."""
    log_probs, lengths, _ = model.forward(**{kind: batch[0], f"{kind}_length": batch[1]})
    loss = model.loss(log_probs=log_probs, targets=batch[2], input_lengths=lengths, target_lengths=batch[3])
    return log_probs, loss


def test_speeds_follow_from_seed_epoch_and_row(
    models: dict[str, Any], clips: tuple[Path, list[Row]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="hlas"):
        kept = keep(models["whisper"], clips, tmp_path / "kept", speeds=(0.9, 1.1))
    assert kept.speeds == (0.9, 1.0, 1.1)
    assert kept.index[0, :, 1].tolist() == [56, 50, 46]
    assert kept.index[3, :, 1].tolist() == [0, 1450, 1319]  # 29 s are 32 s at 0.9
    assert "1 variants left out" in caplog.text
    frames = sorted(kept.index.reshape(-1, 2).tolist())
    assert all(a + n <= b for (a, n), (b, _) in pairwise(frames))  # no two share a frame
    augmented, same, other = (kept.dataset(TOKENS, seed=seed, augment=True) for seed in (1, 1, 2))
    drawn: list[list[int]] = []
    others: list[list[int]] = []
    for epoch in range(12):
        for dataset in (augmented, same, other):
            dataset.set_epoch(epoch)
        drawn.append([frames_of(augmented, i) for i in range(4)])
        assert drawn[-1] == [frames_of(same, i) for i in reversed(range(4))][::-1]  # whatever was asked before
        others.append([frames_of(other, i) for i in range(4)])
    assert {row[0] for row in drawn} == {46, 50, 56}
    assert {row[3] for row in drawn} == {1319, 1450}
    assert others != drawn
    plain = kept.dataset(TOKENS)
    plain.set_epoch(3)
    assert [frames_of(plain, i) for i in range(4)] == kept.index[:, 1, 1].tolist()


def test_a_variant_with_fewer_frames_than_ctc_needs_is_not_drawn(
    models: dict[str, Any], clips: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    kept = keep(models["whisper"], clips, tmp_path / "kept", speeds=(0.9, 1.1))
    tokens = [[1] * 24, *TOKENS[1:]]  # 24 labels and 23 blanks: more than the 46 frames of the fast variant
    dataset = kept.dataset(tokens, augment=True)
    seen = set()
    for epoch in range(12):
        dataset.set_epoch(epoch)
        seen.add(frames_of(dataset, 0))
    assert seen == {50, 56}
    halved = replace(kept, pool=2).dataset([[1] * 14, *TOKENS[1:]], augment=True)  # 27 frames of 28, 25 and 23
    for epoch in range(12):
        halved.set_epoch(epoch)
        assert frames_of(halved, 0) == 56


def test_they_are_taken_again_only_from_the_same_weights_rows_and_speeds(
    models: dict[str, Any], clips: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    import torch

    model = models["conv"]
    path = tmp_path / "kept"

    def made() -> float:
        keep(model, clips, path)
        return float((path / "kept.json").stat().st_mtime_ns)

    first = made()
    assert made() == first
    (path / "kept.json").unlink()  # killed before it was whole
    assert made() != first
    before = read_json(path / "kept.json")["made_of"]
    with torch.no_grad():
        model.encoder.encoder[0].mconv[0].conv.weight[0] += 1.0
    made()
    assert read_json(path / "kept.json")["made_of"] != before
    assert len(keep(model, (clips[0], clips[1][:2]), path).index) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]


def test_a_transcript_for_every_clip(models: dict[str, Any], clips: tuple[Path, list[Row]], tmp_path: Path) -> None:
    kept = keep(models["conv"], clips, tmp_path / "kept")
    with pytest.raises(ValueError, match="3 transcripts for 4 clips"):
        kept.dataset(TOKENS[:3])


def test_where_memory_lacks_fewer_clips_are_computed_at_once(
    models: dict[str, Any], clips: tuple[Path, list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from hlas.models.training.kept_outputs import BATCH_S

    model = models["conv"]
    expected = keep(model, clips, tmp_path / "kept").dataset(TOKENS)
    own = type(model.encoder).forward
    sizes = []

    def hungry(most: int) -> None:
        def ask(self: Any, audio_signal: Any, length: Any) -> Any:
            sizes.append(len(length))
            if len(length) > most:
                torch.empty(1 << 60)
            return own(self, audio_signal=audio_signal, length=length)

        monkeypatch.setattr(type(model.encoder), "forward", ask)

    hungry(1)
    halved = keep(model, clips, tmp_path / "halved").dataset(TOKENS)
    assert sum(row.duration for row in clips[1][:3]) < BATCH_S
    assert sizes == [1, 3, 1, 2, 1, 1]  # 29 s alone, then all three others, then halves of them
    for i in range(len(TOKENS)):
        np.testing.assert_allclose(halved[i][0], expected[i][0], atol=5e-3)
    hungry(0)
    with pytest.raises(UserError, match=r"keep_outputs: the machine has no memory for the outputs of .*/3.wav, 29.0 s"):
        keep(model, clips, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_outputs_beyond_float16_are_an_error(
    models: dict[str, Any], clips: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    import torch

    model = build("whisper")
    with torch.no_grad():
        model.encoder.whisper.layers[0].fc2.bias += 1e6
    with pytest.raises(UserError, match="float16"):
        keep(model, clips, tmp_path / "kept")
