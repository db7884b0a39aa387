"""Rows that a model cannot be trained on: which, why, and how many, against CTC itself on real models."""

import logging
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from hlas.errors import UserError
from hlas.manifests.rows import Row, read_manifest, write_rows
from hlas.models.training.job import Fit
from hlas.models.training.screening import (
    SHORTEST_S,
    Screened,
    enough_frames,
    judge_audio,
    measured_frames,
    screen,
    speller,
)
from hlas.params import resolve_all
from hlas.paths import project_root
from hlas.tokenizers import stage as tokenizer_stage
from hlas.yamls import read_extended
from train_kit import RATE, make_lab, params

LOG = logging.getLogger("hlas")
Make = Callable[..., Fit]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Jobs of a tiny model with the labels ' abc', or pieces of them."""
    lab = make_lab(tmp_path_factory.mktemp("store"))
    tokenizers = {
        "char": lab.tokenizer(tokenizer_stage.Params("char")).path,
        "bpe": lab.tokenizer(tokenizer_stage.Params("bpe", vocab_size=9)).path,
    }

    def job(
        model: dict[str, Any] | None = None, unit: str = "char", missing: Sequence[str] = (), **rows: list[Row]
    ) -> Fit:
        folder = lab.store / f"train-{unit}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        paths = {}
        for split in ("train", "dev"):
            paths[split] = lab.split(split).path
            if split in rows:
                for row in rows[split]:
                    if row.audio_filepath not in missing:
                        (lab.store / "manifests" / row.audio_filepath).write_bytes(b"not looked into")
                paths[split] = lab.store / "manifests" / f"own_{split}.jsonl"
                write_rows(paths[split], rows[split])
        labels = tokenizer_stage.read_labels(tokenizers[unit])
        return Fit(model or params().model, {}, "32", 1, paths["train"], paths["dev"], labels, folder)

    return job


def screened(job: Fit) -> dict[str, Screened]:
    from hlas.models.training.build import build_model

    return screen(build_model(job, None), job, LOG)


MIXED = [
    Row("good.wav", 1.0, "ab ca"),
    Row("foreign.wav", 1.0, "äb ca"),
    Row("silent.wav", 1.0, ""),
    Row("blink.wav", 0.05, "a"),
    Row("long.wav", 16.8, "ab"),  # quartznet_mini has max_duration 16.7
    Row("fast.wav", 0.2, "abcabcabcabcabcabc"),
    Row("also_good.wav", 2.0, "cab"),
]


def test_every_row_is_kept_or_counted(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hlas")
    job = make(train=MIXED)
    train = screened(job)["train"]
    assert train.rejects == {"no_label": 1, "empty_text": 1, "too_short": 1, "too_long": 1, "too_few_frames": 1}
    assert [row.audio_filepath for row in train.rows] == ["../manifests/good.wav", "../manifests/also_good.wav"]
    assert read_manifest(train.manifest) == list(train.rows)
    lines = (job.folder / "rejects.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "split\taudio\treason\tdetail"
    assert [line.split("\t")[:3] for line in lines[1:]] == [
        ["train", "foreign.wav", "no_label"],
        ["train", "silent.wav", "empty_text"],
        ["train", "blink.wav", "too_short"],
        ["train", "long.wav", "too_long"],
        ["train", "fast.wav", "too_few_frames"],
    ]
    assert lines[1].endswith("\tä")
    assert "train: kept 2 of 7, empty_text 1, no_label 1, too_few_frames 1, too_long 1, too_short 1" in caplog.messages
    assert "dev: kept 2 of 2" in caplog.messages


def test_dev_keeps_what_can_be_heard(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    dev = screened(make(dev=MIXED))["dev"]
    assert dev.rejects == {"too_short": 1}  # validation_ds has no max_duration
    assert len(dev.rows) == 6
    assert "dev: 1 of 7 rows have characters without a label (ä): they count as errors" in caplog.text


def test_a_split_without_a_row_left_says_why(make: Make) -> None:
    rows = [Row("a.wav", 1.0, "жаба"), Row("b.wav", 1.0, "уж"), Row("c.wav", 1.0, "")]
    with pytest.raises(UserError) as raised:
        screened(make(train=rows))
    assert raised.value.problem == "no row is left of 3; the commonest reason is no_label (2), e.g. a.wav: абж"
    assert "alphabet" in raised.value.fix
    with pytest.raises(UserError) as raised:
        screened(make(dev=[Row("a.wav", 0.01, "ab")]))
    assert raised.value.where == "train.dev" and raised.value.fix.startswith("lower validation_ds.min_duration")
    with pytest.raises(UserError, match=r"train\.dev: the manifest is empty"):
        screened(make(dev=[]))


def test_audio_that_is_missing_is_found_before_the_training(make: Make) -> None:
    rows = [Row(f"{name}.wav", 1.0, "ab ca") for name in ("there", "gone", "empty", "also_gone", "gone")]
    job = make(train=[*rows, Row("never.wav", 0.01, "a")], missing=("gone.wav", "also_gone.wav", "never.wav"))
    folder = job.train.parent
    (folder / "empty.wav").write_bytes(b"")
    with pytest.raises(UserError) as raised:
        screened(job)
    assert raised.value.where == "train.train"
    assert raised.value.problem == f"3 of 4 audio files are missing or empty, e.g. {folder}/gone.wav"
    assert f"relative paths start from {folder})" in raised.value.fix
    with pytest.raises(UserError, match=r"train\.dev: 1 of 1 audio files"):
        screened(make(dev=[Row("no_dev.wav", 1.0, "ab")], missing=("no_dev.wav",)))


def test_dev_without_a_word_is_refused(make: Make) -> None:
    rows = [Row("a.wav", 1.0, ""), Row("b.wav", 1.0, " "), Row("c.wav", 0.01, "ab")]
    with pytest.raises(UserError, match=r"train\.dev: the texts of all 2 rows are empty: there is no WER"):
        screened(make(dev=rows))
    assert len(screened(make(dev=[*rows, Row("d.wav", 1.0, "ab")]))["dev"].rows) == 3


def test_pieces_that_are_unknown_are_characters_without_a_label(make: Make) -> None:
    from hlas.models.training.build import build_model

    spell = speller(build_model(make(unit="bpe"), None))
    assert spell("ab ca").unknown == ""
    assert 2 <= spell("ab ca").tokens <= 5
    assert spell("ab žca").unknown == "ž"
    rejects = screened(make(unit="bpe", train=MIXED))["train"].rejects
    assert rejects["no_label"] == 1 and rejects["empty_text"] == 1


def test_a_blank_is_counted_between_two_that_are_the_same(make: Make) -> None:
    from hlas.models.training.build import build_model

    spell = speller(build_model(make(), None))
    assert (spell("aab  c").tokens, spell("aab  c").frames_needed) == (6, 8)


def conformer() -> dict[str, Any]:
    """fastconformer_ctc_s with one narrow layer: a frame for every 80 ms, by another formula than QuartzNet's."""
    data, _ = resolve_all(read_extended(project_root() / "models/fastconformer_ctc_s.yaml").data, {})
    model: dict[str, Any] = data["model"]
    model["encoder"] |= {"n_layers": 1, "d_model": 16, "n_heads": 2, "subsampling_conv_channels": 8}
    model["decoder"]["feat_in"] = 16
    return model


@pytest.mark.parametrize("stride_s", [0.04, 0.08])
def test_what_is_rejected_is_what_ctc_cannot_align(make: Make, stride_s: float) -> None:
    """With texts around the limit of every length, torch's loss is infinite just where a row is rejected."""
    import torch

    from hlas.models.training.build import build_model

    model = build_model(make(conformer() if stride_s == 0.08 else None), None).eval()
    spell = speller(model)
    draw = np.random.default_rng(1)
    durations_s, texts = [], []
    for duration_s in (*draw.uniform(0.1, 4.0, 20), 12.0):  # beyond the silences that are measured, too
        for extra in (-4, -2, -1, 0, 1, 2, 4):
            durations_s.append(float(duration_s))
            texts.append("".join(draw.choice(list("abc "), max(1, round(duration_s / stride_s / 1.25) + extra))))
    durations_s += [12.0, 0.1]
    texts += ["a", "abcabcabcabc"]
    needed = [spell(text).frames_needed for text in texts]
    rejected = [frames is not None for frames in enough_frames(model, durations_s, needed)]
    frames = torch.tensor(measured_frames(model, [round(s * RATE) for s in durations_s]))
    targets = [torch.tensor([" abc".index(c) for c in text]) for text in texts]
    loss = torch.nn.functional.ctc_loss(
        torch.randn(int(frames.max()), len(texts), 5).log_softmax(2),
        torch.cat(targets),
        frames,
        torch.tensor([len(target) for target in targets]),
        blank=4,
        reduction="none",
    )
    assert rejected == loss.isinf().tolist()
    assert 30 < sum(rejected) < len(texts) - 30


def test_measuring_leaves_the_model_as_it_was(make: Make) -> None:
    from hlas.models.training.build import build_model

    model = build_model(make(), None).train()
    model.decoder.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measured_frames(model, [RATE])
    assert model.encoder.training and not model.decoder.training
    assert all(bool((tensor == before[name]).all()) for name, tensor in model.state_dict().items())


def test_an_encoder_with_positions_for_30_s_hears_no_more() -> None:
    from hlas.models.nemo_quiet import import_asr

    import_asr()
    from hlas.models.modules.whisper_encoder import WhisperEncoder

    rows = [Row("a.wav", seconds, "a") for seconds in (29.9, 30.0, 30.1)]
    verdicts = judge_audio(rows, {"max_duration": 40.0}, WhisperEncoder.longest_s)
    assert [verdict.reason for verdict in verdicts] == ["", "", "too_long"]
    verdicts = judge_audio(rows, {"max_duration": None, "min_duration": 29.95}, float("inf"))
    assert [verdict.reason for verdict in verdicts] == ["too_short", "", ""]


def test_the_shortest_clip_that_is_kept_has_features(make: Make) -> None:
    import torch

    from hlas.models.training.build import build_model

    model = build_model(make(), None).train()
    signal = torch.randn(1, round(SHORTEST_S * RATE))
    log_probs, frames, _ = model(input_signal=signal, input_signal_length=torch.tensor([signal.shape[1]]))
    assert bool(log_probs.isfinite().all()) and int(frames[0]) >= 2


def test_augmented_lengths_stay_inside_the_limits() -> None:
    rows = [Row("a.wav", s, "a") for s in (1.05, 5.0, 15.0, 15.5)]
    config = {"min_duration": 1.0, "max_duration": 16.7, "augmentor": {"speed": {"prob": 0.5}}}
    assert [v.reason for v in judge_audio(rows, config, 30.0)] == ["too_short", "", "", "too_long"]
