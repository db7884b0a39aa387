"""Whisper fine-tuned without adapters: what is trained, what is written, and that every way to train is the same."""

import json
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile

from finetune_kit import DEV, TRAIN, Bench, changed, given, module, numbers, same, tensors
from hlas.errors import UserError
from hlas.manifests.audio.files import load_audio
from hlas.manifests.rows import Row, read_hypotheses, read_manifest, write_rows
from hlas.models.recognise import load_recogniser
from hlas.models.training.options import Ema, Experiment, KeepOutputs
from hlas.stage import Input
from hlas.store import Record, write_record
from train_kit import RATE, curve, spoken

pytest_plugins = ("whisper_kit", "finetune_kit")
ENCODER_LAST: Any = {"encoder_except_last": 1}
KEPT = KeepOutputs()


@pytest.fixture(scope="module")
def whole(bench: Bench) -> dict[str, Any]:
    """Everything trained for two epochs: the summary."""
    return bench.train("whole", given())


@pytest.fixture(scope="module")
def frozen(bench: Bench) -> dict[str, Any]:
    """The same under a frozen encoder."""
    return bench.train("frozen", given(freeze="encoder"))


@pytest.fixture(scope="module")
def last(bench: Bench) -> dict[str, Any]:
    """The same with the encoder's last layer trained."""
    return bench.train("last", given(freeze=ENCODER_LAST))


# --- what is trained -------------------------------------------------------------------------------------------------


def test_what_is_frozen_stays_and_all_else_learns(
    bench: Bench, whole: dict[str, Any], frozen: dict[str, Any], last: dict[str, Any]
) -> None:
    bench.train("features", given(1, freeze="feature_encoder"))
    names = set(tensors(bench.base))
    encoder = {name for name in names if name.startswith("model.encoder.")}
    features = {name for name in encoder if ".conv" in name or "embed_positions" in name}
    lower = {name for name in encoder if ".layers.0." in name} | features
    sinusoids = {"model.encoder.embed_positions.weight"}  # fixed in the paper, and in OpenAI's program
    assert encoder and features and len(lower) > len(features)
    assert changed(bench, "whole") == names - sinusoids
    assert changed(bench, "frozen") == names - encoder
    assert changed(bench, "last") == names - lower
    assert changed(bench, "features") == names - features
    assert whole["parameters"] == frozen["parameters"] > whole["trainable"] > last["trainable"] > frozen["trainable"]
    assert [summary["saved"] for summary in (whole, frozen, last)] == ["whole model"] * 3


def test_the_folder_is_whole_and_names_no_path_of_this_machine(bench: Bench, whole: dict[str, Any]) -> None:
    folder = bench.model("whole")
    assert {file.name for file in folder.iterdir()} == {file.name for file in bench.base.iterdir()} | {"sha256.json"}
    own = json.loads((folder / "generation_config.json").read_text())
    assert own == json.loads((bench.base / "generation_config.json").read_text())
    assert not any(str(bench.lab.store) in file.read_text() for file in folder.glob("*.json"))
    assert str(bench.base) not in json.dumps(whole)
    assert {value.dtype for value in tensors(folder).values()} == {np.dtype(np.float32)}
    assert sorted(p.name for p in folder.parent.iterdir()) == [
        *("curve.jsonl", "dev.jsonl", "model", "rejects.tsv", "samples.jsonl", "tensorboard", "train.jsonl"),
    ]


def test_a_training_is_the_same_with_gradient_checkpointing(
    bench: Bench, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import modeling_utils

    own, calls = modeling_utils.checkpoint, []

    def checkpoint(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return own(*args, **kwargs)

    monkeypatch.setattr(modeling_utils, "checkpoint", checkpoint)
    bench.train("checkpointing", given(model={"gradient_checkpointing": True}))
    assert len(calls) == 4 * 4  # layers, in each of two batches in two epochs
    assert numbers(bench, "checkpointing") == numbers(bench, "whole")
    assert same(tensors(bench.model("checkpointing")), tensors(bench.model("whole")))


def test_mixed_precision_trains_and_saves_float32(bench: Bench, whole: dict[str, Any]) -> None:
    summary = bench.train("bf16", given(1, precision="bf16-mixed"))
    ((loss, *_),), (plain, *_) = numbers(bench, "bf16"), numbers(bench, "whole")[0]
    assert summary["precision"] == "bf16-mixed" and loss != plain and loss == pytest.approx(plain, rel=0.05)
    saved = tensors(bench.model("bf16"))
    assert {value.dtype for value in saved.values()} == {np.dtype(np.float32)}
    assert all(np.isfinite(value).all() for value in saved.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"spec_augment": {"freq_masks": 2, "freq_width": 27, "time_masks": 2, "time_width": 0.3}},
        {
            "train_ds": {
                "batch_size": 4,
                "augmentor": {"white_noise": {"prob": 1.0, "min_level": -30, "max_level": -20}},
            }
        },
        {"dropout": 0.3},
    ],
    ids=["spec_augment", "augmentor", "dropout"],
)
def test_augmentation_reaches_the_training(bench: Bench, whole: dict[str, Any], changes: dict[str, Any]) -> None:
    name = "augmented-" + next(iter(changes))
    bench.train(name, given(1, model=changes))
    assert numbers(bench, name)[0][0] != numbers(bench, "whole")[0][0]


def test_noise_is_mixed_in(bench: Bench, whole: dict[str, Any]) -> None:
    folder = bench.lab.store / "noises"
    folder.mkdir()
    soundfile.write(folder / "n.wav", 0.3 * np.random.default_rng(0).standard_normal(3 * RATE), RATE)
    write_rows(folder / "noise.jsonl", [Row("n.wav", 3.0, "-")])
    data = {"batch_size": 4, "augmentor": {"noise": {"prob": 1.0, "min_snr_db": 0, "max_snr_db": 5}}}
    bench.train("noisy", given(1, model={"train_ds": data}), noise=Input(folder / "noise.jsonl"))
    assert numbers(bench, "noisy")[0][0] != numbers(bench, "whole")[0][0]


def test_smoothed_labels_change_the_loss_of_training_alone(bench: Bench) -> None:
    losses = {}
    for smoothing in (0.0, 0.2):
        model = module(bench.base, given(model={"label_smoothing": smoothing}))
        audio, tokens = batch(model, ["ab ca"])
        for training in (True, False):
            losses[smoothing, training] = float(model.train(training).loss(model.hear((*audio, *tokens)), *tokens))
    assert losses[0.0, True] == losses[0.0, False] == losses[0.2, False] != losses[0.2, True]


def test_averages_of_the_weights(bench: Bench, whole: dict[str, Any]) -> None:
    ema = bench.train("ema", given(exp_manager=Experiment(ema=Ema(enable=True, decay=0.5))))
    assert ema["weights"] == "ema"
    assert numbers(bench, "ema")[0][0] == numbers(bench, "whole")[0][0]  # trained on, the weights themselves
    assert numbers(bench, "ema")[0][1] != numbers(bench, "whole")[0][1]  # validated, their average
    mean = bench.train("average", given(exp_manager=Experiment(average_last=2)))
    assert set(mean["dev_wers"]) == {"best", "average of 2"}
    assert mean["weights"] == min(mean["dev_wers"], key=lambda n: (mean["dev_wers"][n], n == "best"))
    assert changed(bench, "ema") == changed(bench, "average") == changed(bench, "whole")


# --- kept outputs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "freeze"), [("frozen", "encoder"), ("last", ENCODER_LAST)])
def test_kept_outputs_train_the_same(
    bench: Bench, name: str, freeze: Any, frozen: dict[str, Any], last: dict[str, Any]
) -> None:
    bench.train(f"{name}-kept", given(freeze=freeze, keep_outputs=KEPT))
    kept, heard = numbers(bench, f"{name}-kept"), numbers(bench, name)
    for a, b in zip(kept, heard, strict=True):
        assert a == pytest.approx(b, rel=2e-3)  # kept in float16
    assert kept != heard
    base, one, other = (tensors(folder) for folder in (bench.base, bench.model(f"{name}-kept"), bench.model(name)))
    moved = {key: np.abs(other[key] - base[key]).mean() for key in base}
    assert all(np.abs(one[key] - other[key]).mean() <= 0.1 * moved[key] for key in base)
    assert not (bench.lab.store / f"{name}-kept" / "kept").exists()


# --- windows and tokens ----------------------------------------------------------------------------------------------


def batch(model: Any, texts: list[str]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Clips of those texts as NeMo's loaders give them: (signal, lengths), (tokens, lengths)."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    clips = [torch.from_numpy(spoken(text)) for text in texts]
    tokens = [torch.tensor(model.tokenizer.text_to_ids(text)) for text in texts]
    parts = [
        (pad_sequence(items, batch_first=True), torch.tensor([len(item) for item in items]))
        for items in (clips, tokens)
    ]
    return parts[0], parts[1]


@pytest.mark.parametrize("padding_s", [0.0, 1.0, None])
def test_a_clip_is_heard_alike_alone_and_in_a_batch(bench: Bench, padding_s: float | None) -> None:
    import torch

    texts = ["ba", "ca ba ab ca bc ab", "ab ca bc ba"]
    model = module(bench.base, given(model={"padding_s": padding_s})).eval()
    with torch.inference_mode():
        audio, tokens = batch(model, texts)
        heard = model.hear((*audio, *tokens))
        together = model.logits(heard, tokens[0])
        losses, drawn = [], model._engine.draw(heard.encoded, [model.tokenizer.prompt] * 3, 0.0)
        for i, text in enumerate(texts):
            clip, own = batch(model, [text])
            alone = model.hear((*clip, *own))
            assert alone.frames.tolist() == [heard.frames[i]]
            difference = (together[i, : own[1][0]] - model.logits(alone, own[0])[0]).abs().max()
            assert float(difference) < 3e-5  # of logits up to 8, in float32
            losses.append((float(model.loss(alone, *own)), int(own[1][0]) - len(model.tokenizer.prompt)))
            model.hear((*clip, *own))
            assert drawn[i].tokens == model._engine.draw(alone.encoded, [model.tokenizer.prompt], 0.0)[0].tokens
        model.hear((*audio, *tokens))
        mean = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
        assert float(model.loss(heard, *tokens)) == pytest.approx(mean, rel=1e-5)
    assert len(set(heard.frames.tolist())) == (1 if padding_s is None else 2)


def test_windows_are_those_of_the_transcribe_stage(bench: Bench) -> None:
    """Also where a clip's end is no whole frame, and its window would just fit without the rest."""
    import torch

    from hlas.models.whisper_decoding import _features, window_frames

    model = module(bench.base, given())
    for samples in (16000, 16080, 16001, 15999, 31000):
        clip = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
        wanted = _features(clip, 80)
        features, windows = model.preprocessor(
            input_signal=torch.from_numpy(clip)[None], length=torch.tensor([samples])
        )
        assert windows.tolist() == [window_frames(wanted.shape[1], 1.0)]
        expected = np.zeros((80, int(windows[0])), np.float32)
        expected[:, : wanted.shape[1]] = wanted
        assert np.abs(features[0].numpy() - expected).max() < 1e-3


def test_the_prompt_is_whispers_and_costs_nothing(bench: Bench) -> None:
    import torch

    model = module(bench.base, given()).eval()
    audio, (tokens, lengths) = batch(model, ["ab ca"])
    ids, words = tokens[0].tolist(), model.tokenizer.tokenizer
    names = [words.id_to_token(i) for i in (*ids[:4], ids[-1])]
    assert names == ["<|startoftranscript|>", "<|cs|>", "<|transcribe|>", "<|notimestamps|>", "<|endoftext|>"]
    assert words.decode(ids[4:-1]) == " ab ca"
    with torch.inference_mode():
        heard = model.hear((*audio, tokens, lengths))
        logprobs = model.logits(heard, tokens).log_softmax(dim=-1)[0]
        expected = -sum(float(logprobs[i - 1, ids[i]]) for i in range(4, len(ids))) / (len(ids) - 4)
        assert float(model.loss(heard, tokens, lengths)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("transcript", ["text", "raw_text"])
def test_it_learns_the_form_that_is_asked_for(bench: Bench, transcript: str) -> None:
    name = f"learns-{transcript}"
    bench.train(name, given(1, model={"transcript": transcript}, trainer={"limit_train_batches": 1}))
    for split, texts in (("train", TRAIN), ("dev", DEV)):
        written = [row.text for row in read_manifest(bench.lab.store / name / f"{split}.jsonl")]
        assert written == (texts if transcript == "text" else [text.capitalize() + "." for text in texts])


# --- the model in use ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding_s", [1.0, None])
def test_the_transcribe_stage_hears_what_the_validation_heard(bench: Bench, padding_s: float | None) -> None:
    name = f"windows-{padding_s}"
    bench.train(name, given(1, lr=0.003, model={"padding_s": padding_s}))
    (best,) = curve(bench.lab.store / name)
    record = Record(name, "finetune", 1, "", {}, {"model": {"padding_s": padding_s}}, {}, {}, 1.0, "", {})
    write_record(bench.lab.store / name, record)  # so that the windows are known to be as it was taught
    path = bench.transcribe(f"heard-{name}", bench.model(name), engine="transformers")
    heard = read_hypotheses(path)
    assert any(h.pred_text for h in heard) and len({h.pred_text for h in heard}) > 1
    references, texts = [h.row.text for h in heard], [h.pred_text for h in heard]
    assert best["dev_wer"] == pytest.approx(jiwer.wer(references, texts), abs=1e-5)
    assert best["dev_cer"] == pytest.approx(jiwer.cer(references, texts), abs=1e-5)
    other = bench.texts(f"fast-{name}", bench.model(name), engine="faster-whisper", padding_s=padding_s)
    assert other == [h.raw_pred_text for h in heard]


def test_a_tuned_model_transcribes_files_as_it_was_taught(bench: Bench, whole: dict[str, Any]) -> None:
    """Its language and its windows are the stage's; without a record the folder is a Whisper like any other."""
    folder = bench.model("whole").parent
    params = {"model": {"padding_s": 1.0}}
    record = Record("whole", "finetune", 1, "", {}, params, {}, {"language": "cs"}, 1.0, "", {})
    write_record(folder, record)
    clip = next(bench.lab.split("dev").path.parent.glob("*.wav"))
    tuned = load_recogniser(str(folder), None, "")
    heard = tuned.transcribe(load_audio(clip, tuned.sample_rate_hz))
    assert heard.language == "cs"
    assert len(heard.segments) <= 1  # taught without times, it is not asked for them
    assert load_recogniser(str(folder / "model"), None, "pl").transcribe(np.zeros(8000, np.float32)).language == "pl"
    with pytest.raises(UserError, match="Whisper takes no LM"):
        load_recogniser(str(folder), Path("lm"), "")
