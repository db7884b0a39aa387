"""Augmentation as a YAML names it: what NeMo's dataset hands over is changed, and by how much."""

import importlib.util
import inspect
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hlas.errors import UserError
from hlas.manifests.rows import Row, write_rows
from hlas.models.augmentor import KEYS, REFUSED, check_augmentor, length_factors, with_sets
from hlas.models.nemo_quiet import import_asr
from hlas.stage import Input, Stage
from hlas.tokenizers import stage as tokenizer_stage
from train_kit import LOG, params

RATE, SECONDS, TONE_HZ = 16000, 2, 440.0
SAMPLES = RATE * SECONDS


@dataclass(frozen=True)
class Corpus:
    """Two clips of a tone, one of noise, one room, and the clips' labels."""

    folder: Path
    clip: np.ndarray  # as it was written


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    time_s = np.arange(SAMPLES) / RATE
    clip = 0.2 * np.sin(2 * np.pi * TONE_HZ * time_s) * np.hanning(SAMPLES)
    noise = np.random.default_rng(1).uniform(-0.3, 0.3, SAMPLES)
    room = np.zeros(2000)
    room[0], room[1600] = 0.5, 0.25  # an echo, half as strong and 0.1 s later
    for name, samples in (("clip", clip), ("noise", noise), ("room", room)):
        soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="FLOAT")
    rows = [Row("clip.wav", SECONDS, "ab"), Row("clip.wav", SECONDS, "ba")]
    for name, of in (("train", rows), ("dev", rows), ("noise", [Row("noise.wav", SECONDS, "-")])):
        write_rows(folder / f"{name}.jsonl", of)
    write_rows(folder / "rooms.jsonl", [Row("room.wav", 2000 / RATE, "-")])
    stage = Stage("tokenizer", "tokenizer", folder, {"text": (Input(folder / "train.jsonl"),)}, None, LOG, workers=1)
    tokenizer_stage.run(tokenizer_stage.Params("char"), stage)
    return Corpus(folder, clip.astype(np.float32))


@cache  # building one costs more than all that is heard through it
def model_and_rows(folder: Path) -> tuple[Any, Any]:
    """A model on the corpus, and the rows that it is trained on."""
    import_asr()
    from hlas.models.training.build import build_model
    from hlas.models.training.screening import screen

    model = build_model(job(folder, {}), None)
    return model, screen(model, job(folder, {}), LOG)


def job(folder: Path, augmentor: dict[str, Any], sets: tuple[str, ...] = ()) -> Any:
    from hlas.models.training.job import Fit

    model = params().model
    model["train_ds"] |= {"augmentor": augmentor, "shuffle": False}
    check_augmentor(model["train_ds"])
    labels = tokenizer_stage.read_labels(folder)
    train, dev, own = folder / "train.jsonl", folder / "dev.jsonl", folder / "job"
    own.mkdir(exist_ok=True)
    return Fit(model, {}, "32", 1, train, dev, labels, own, sets={name: folder / f"{name}.jsonl" for name in sets})


def heard_in(corpus: Corpus, epochs: int, sets: tuple[str, ...] = (), **augmentor: Any) -> list[np.ndarray]:
    """The first clip in each of the first epochs, as the training's own loader hands it over, without padding."""
    from omegaconf import open_dict

    from hlas.models.training.loading import attach_loaders

    model, rows = model_and_rows(corpus.folder)
    with open_dict(model.cfg):
        model.cfg.pop("train_ds", None)  # else the perturbations of the last call stay
    attach_loaders(model, job(corpus.folder, augmentor, sets), rows, 0, 1, LOG)
    out = []
    for epoch in range(epochs):
        model._train_dl.batch_sampler.epoch = epoch
        samples, lengths, *_ = next(iter(model._train_dl))
        out.append(samples[0, : int(lengths[0])].numpy())
    return out


def heard(corpus: Corpus, sets: tuple[str, ...] = (), **augmentor: Any) -> np.ndarray:
    return heard_in(corpus, 1, sets, **augmentor)[0]


def dominant_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 2**18))
    return float(np.argmax(spectrum) * RATE / 2**18)


def decibels(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2)))


def test_without_an_augmentor_clips_are_as_they_are(corpus: Corpus) -> None:
    np.testing.assert_array_equal(heard(corpus), corpus.clip)


@pytest.mark.parametrize("rate", [0.9, 1.1])
def test_speed_changes_the_length_by_its_rate_and_the_voice_against_it(corpus: Corpus, rate: float) -> None:
    out = heard(corpus, speed={"prob": 1.0, "min_speed_rate": rate, "max_speed_rate": rate, "num_rates": 1})
    assert len(out) == round(SAMPLES * rate)
    assert dominant_hz(out) == pytest.approx(TONE_HZ / rate, abs=0.5)
    assert decibels(out) == pytest.approx(decibels(corpus.clip), abs=0.1)


def test_speed_draws_one_of_its_rates_anew_in_every_epoch(corpus: Corpus) -> None:
    lengths = [len(clip) for clip in heard_in(corpus, 12, speed={"prob": 1.0, "num_rates": 3})]
    assert set(lengths) == {round(SAMPLES * rate) for rate in (0.9, 1.0, 1.1)}


@pytest.mark.skipif(importlib.util.find_spec("resampy") is not None, reason="with resampy NeMo's kaiser_* work")
def test_nemos_speed_does_nothing_with_a_resampler_that_is_not_there() -> None:
    """Why `resample_type: kaiser_best` is refused: should this fail, it need not be any more."""
    import_asr()
    from nemo.collections.asr.parts.preprocessing.perturb import SpeedPerturbation
    from nemo.collections.asr.parts.preprocessing.segment import AudioSegment

    segment = AudioSegment(np.ones(1000, dtype=np.float32), RATE)
    SpeedPerturbation(RATE, "kaiser_best", 1.1, 1.1, 1).perturb(segment)
    assert len(segment.samples) == 1000


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_time_stretch_changes_the_length_and_leaves_the_voice(corpus: Corpus, rate: float) -> None:
    out = heard(corpus, time_stretch={"prob": 1.0, "min_speed_rate": rate, "max_speed_rate": rate, "num_rates": 1})
    assert len(out) == round(SAMPLES / rate)
    assert dominant_hz(out) == pytest.approx(TONE_HZ, rel=0.02)


@pytest.mark.parametrize("semitones", [-3.0, 2.0])
def test_pitch_changes_the_voice_and_leaves_the_length(corpus: Corpus, semitones: float) -> None:
    out = heard(corpus, pitch={"prob": 1.0, "min_semitones": semitones, "max_semitones": semitones})
    assert len(out) == SAMPLES
    assert dominant_hz(out) == pytest.approx(TONE_HZ * 2 ** (semitones / 12), rel=0.02)
    assert decibels(out) == pytest.approx(decibels(corpus.clip), abs=1.0)


def test_pitch_is_drawn_between_its_bounds(corpus: Corpus) -> None:
    bounds = {"prob": 1.0, "min_semitones": -4.0, "max_semitones": 4.0}
    drawn = [12 * np.log2(dominant_hz(clip) / TONE_HZ) for clip in heard_in(corpus, 6, pitch=bounds)]
    assert -4.3 < min(drawn) < 0 < max(drawn) < 4.3


def test_gain_changes_the_level_by_its_decibels(corpus: Corpus) -> None:
    out = heard(corpus, gain={"prob": 1.0, "min_gain_dbfs": -6.0, "max_gain_dbfs": -6.0})
    np.testing.assert_allclose(out, corpus.clip * 10 ** (-6 / 20), atol=1e-7)


def test_shift_moves_the_clip_and_fills_with_silence(corpus: Corpus) -> None:
    out = heard(corpus, shift={"prob": 1.0, "min_shift_ms": 100, "max_shift_ms": 100})
    np.testing.assert_array_equal(out[:-1600], corpus.clip[1600:])
    assert not out[-1600:].any()


def test_silence_is_put_before_and_behind(corpus: Corpus) -> None:
    bounds = {"start_silence_secs": 0.2, "end_silence_secs": 0.3}
    out = heard(corpus, silence={"prob": 1.0} | {f"{m}_{k}": v for k, v in bounds.items() for m in ("min", "max")})
    assert len(out) == SAMPLES + 3200 + 4800
    np.testing.assert_allclose(out[3200 : 3200 + SAMPLES], corpus.clip, atol=1e-7)
    assert not out[:3200].any() and not out[3200 + SAMPLES :].any()


def test_white_noise_has_its_level(corpus: Corpus) -> None:
    out = heard(corpus, white_noise={"prob": 1.0, "min_level": -40, "max_level": -39})  # NeMo's upper end is left out
    assert decibels(out - corpus.clip) == pytest.approx(-40, abs=0.1)
    assert abs(np.corrcoef(out[1:] - corpus.clip[1:], out[:-1] - corpus.clip[:-1])[0, 1]) < 0.03


@pytest.mark.parametrize("snr_db", [0.0, 15.0])
def test_noise_has_its_distance_from_the_clip(corpus: Corpus, snr_db: float) -> None:
    out = heard(corpus, ("noise",), noise={"prob": 1.0, "min_snr_db": snr_db, "max_snr_db": snr_db})
    added = out - corpus.clip
    assert decibels(corpus.clip) - decibels(added) == pytest.approx(snr_db, abs=0.05)
    noise, _ = soundfile.read(corpus.folder / "noise.wav")
    assert np.corrcoef(added, noise)[0, 1] > 0.999


def test_a_room_is_its_response_at_full_level(corpus: Corpus) -> None:
    out = heard(corpus, ("rooms",), impulse={"prob": 1.0})
    wet = corpus.clip.astype(np.float64)
    wet[1600:] += 0.5 * corpus.clip[:-1600]
    np.testing.assert_allclose(out, wet / np.abs(wet).max(), atol=1e-5)


@pytest.mark.skipif(shutil.which("sox") is None, reason="transcode_aug runs the program sox")
def test_transcoding_leaves_the_telephone_band(corpus: Corpus) -> None:
    out = heard(corpus, transcode_aug={"prob": 1.0, "codecs": ["g711"]})
    assert len(out) == SAMPLES and not np.array_equal(out, corpus.clip)
    assert dominant_hz(out) == pytest.approx(TONE_HZ, abs=1)


def test_what_is_not_drawn_stays(corpus: Corpus) -> None:
    out = heard(corpus, gain={"prob": 0.0}, pitch={"prob": 0.0}, speed={"prob": 0.0})
    np.testing.assert_array_equal(out, corpus.clip)


# --- masks on the spectrogram


def masked(corpus: Corpus, spec_augment: dict[str, Any], clips: int, frames: int, lengths: list[int]) -> np.ndarray:
    """Where the masks of a training step fall on features of ones: (clips, bands, frames), True where masked."""
    model = built(corpus, spec_augment)
    import torch

    torch.manual_seed(1)
    ones = torch.ones(clips, 64, frames)
    out = model.spec_augmentation(input_spec=ones, length=torch.tensor(lengths))
    assert set(out.unique().tolist()) <= {0.0, 1.0}
    return (out == 0).numpy()  # type: ignore[no-any-return]  # torch is untyped here


def built(corpus: Corpus, spec_augment: dict[str, Any]) -> Any:
    import_asr()
    from hlas.models.training.build import build_model
    from hlas.models.training.job import Fit

    model = params().model
    model["spec_augment"] = {"_target_": "nemo.collections.asr.modules.SpectrogramAugmentation", **spec_augment}
    labels = tokenizer_stage.read_labels(corpus.folder)
    train = corpus.folder / "train.jsonl"
    return build_model(Fit(model, {}, "32", 1, train, train, labels, corpus.folder), None)


def test_specaugment_masks_bands_and_spans_of_at_most_its_widths(corpus: Corpus) -> None:
    keys = {"freq_masks": 2, "freq_width": 10, "time_masks": 3, "time_width": 0.05}
    mask = masked(corpus, keys, 32, 400, [400] * 16 + [200] * 16)
    bands, spans = mask.all(axis=2), mask.all(axis=1)
    assert np.array_equal(mask, bands[:, :, None] | spans[:, None, :])
    assert 0 < bands.sum(axis=1).max() <= 2 * 9  # widths are drawn below the bound
    assert 0 < spans[:16].sum(axis=1).max() <= 3 * 19
    assert 0 < spans[16:].sum(axis=1).max() <= 3 * 9  # a share of the clip's own length
    assert len({mask[i].tobytes() for i in range(16)}) > 10  # each clip has its own


def test_speccutout_masks_rectangles_of_at_most_its_sides(corpus: Corpus) -> None:
    keys = {"rect_masks": 1, "rect_time": 50, "rect_freq": 20}
    mask = masked(corpus, keys, 32, 400, [400] * 32)
    for clip in mask:
        rows, columns = np.flatnonzero(clip.any(axis=1)), np.flatnonzero(clip.any(axis=0))
        if len(rows):
            assert clip[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            assert len(rows) <= 20 and len(columns) <= 50
    assert mask.any(axis=(1, 2)).sum() > 16
    five = masked(corpus, keys | {"rect_masks": 5}, 32, 400, [400] * 32)
    assert five.mean() > 2 * mask.mean()


def test_speccutout_takes_a_batch_shorter_than_its_rectangles(corpus: Corpus) -> None:
    import_asr()
    import torch
    from nemo.collections.asr.modules import SpectrogramAugmentation

    keys = {"rect_masks": 5, "rect_time": 120, "rect_freq": 50}
    with pytest.raises(ValueError, match="empty range"):  # should this pass one day, masks.py may go
        SpectrogramAugmentation(**keys)(input_spec=torch.ones(1, 64, 60), length=torch.tensor([60]))
    mask = masked(corpus, keys, 8, 60, [60] * 8)
    assert 0 < mask.mean() < 1


def test_masks_fall_in_training_only(corpus: Corpus) -> None:
    import torch

    model = built(corpus, {"freq_masks": 2, "freq_width": 20})
    seen: list[torch.Tensor] = []
    model.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["audio_signal"].detach().clone()), with_kwargs=True
    )
    signal, lengths = torch.from_numpy(corpus.clip)[None], torch.tensor([SAMPLES])
    model.preprocessor.featurizer.dither = 0.0
    for training in (True, False, False):
        model.train(training)
        model.preprocessor.eval()
        model(input_signal=signal, input_signal_length=lengths)
    in_training, one, other = seen
    assert torch.equal(one, other)
    silent = (in_training == 0).all(dim=2) & ~(one == 0).all(dim=2)
    assert silent.any()


# --- what is refused, and what is filled in


def test_names_and_keys_are_nemos() -> None:
    import_asr()
    from nemo.collections.asr.parts.preprocessing.perturb import perturbation_types

    from hlas.models.pitch import register_pitch

    register_pitch()
    register_pitch()  # twice is as good as once
    assert set(KEYS) | set(REFUSED) == set(perturbation_types)
    for name, keys in KEYS.items():
        assert set(keys) <= set(inspect.signature(perturbation_types[name]).parameters), name


@pytest.mark.parametrize(
    ("augmentor", "problem"),
    [
        ({"sped": {"prob": 1.0}}, r"augmentor\.sped: no such perturbation; did you mean 'speed'"),
        ({"speed": {"prob": 1.0, "min_rate": 0.9}}, r"min_rate: no such key; did you mean 'min_speed_rate'"),
        ({"speed": {"prob": 1.0, "resample_type": "kaiser_best"}}, "needs the package resampy.*set it to fft"),
        ({"speed": {"prob": 1.0, "num_rates": 0}}, "num_rates 0 draws nothing"),
        ({"speed": {"prob": 1.0, "min_speed_rate": 1.2}}, "rates run from min_speed_rate"),
        ({"time_stretch": {"prob": 1.0, "min_speed_rate": 0.0}}, "rates run from min_speed_rate"),
        ({"white_noise": {"prob": 1.0, "min_level": -40, "max_level": -40}}, "min_level lies below max_level"),
        ({"gain": {"prob": 1.5}}, r"prob 1\.5 is a share"),
        ({"gain": {"prob": "often"}}, r"gain\.prob: 'often' is not a number"),
        ({"gain": {"prob": 1.0, "min_gain_dbfs": "low"}}, r"gain\.min_gain_dbfs: 'low' is not a number"),
        ({"shift": {"prob": 1.0, "min_shift_ms": 5, "max_shift_ms": -5}}, "min_shift_ms 5 lies above max_shift_ms -5"),
        ({"pitch": {"prob": 1.0, "min_semitones": 3, "max_semitones": -2}}, "min_semitones 3 lies above"),
        ({"random_segment": {"prob": 1.0}}, "cuts a clip whose text stays whole"),
        ({"rir_noise_aug": {"prob": 1.0}}, "take impulse and noise"),
        ({"gain": {"prob": 1.0, "rng": 3}}, r"gain\.rng: no such key"),
    ],
)
def test_what_would_do_nothing_or_fail_later_is_refused(augmentor: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_augmentor({"augmentor": augmentor})


def test_speed_is_given_the_rate_of_the_clips_and_a_resampler_that_is_there() -> None:
    made = with_sets({"augmentor": {"speed": {"prob": 0.5}}}, {}, 8000)["augmentor"]
    assert made == {"speed": {"prob": 0.5, "sr": 8000, "resample_type": "fft"}}


def test_under_lhotse_no_augmentor_is_left_out_without_a_word() -> None:
    with pytest.raises(UserError, match="lhotse loader knows no augmentor"):
        with_sets({"use_lhotse": True, "augmentor": {"gain": {"prob": 1.0}}}, {})


def test_what_is_never_drawn_changes_no_length() -> None:
    assert length_factors({"augmentor": {"speed": {"prob": 0.0}, "time_stretch": {"prob": 0.0}}}) == (1.0, 1.0)
    assert length_factors({}) == length_factors({"augmentor": None}) == (1.0, 1.0)


@pytest.mark.parametrize(
    "augmentor",
    [
        {"speed": {"prob": 1.0, "num_rates": 2}},
        {"time_stretch": {"prob": 1.0, "num_rates": 2, "min_speed_rate": 0.8, "max_speed_rate": 1.25}},
        {"speed": {"prob": 1.0, "num_rates": 2}, "time_stretch": {"prob": 1.0, "num_rates": 2}},
        {"gain": {"prob": 1.0}, "pitch": {"prob": 1.0}},
    ],
)
def test_lengths_stay_within_the_factors_that_are_told(corpus: Corpus, augmentor: dict[str, Any]) -> None:
    shortest, longest = length_factors({"augmentor": augmentor})
    lengths = [len(clip) / SAMPLES for clip in heard_in(corpus, 10, **augmentor)]
    assert shortest - 1e-4 <= min(lengths) <= max(lengths) <= longest + 1e-4
    assert min(lengths) == pytest.approx(shortest, rel=1e-3)  # and are reached
    assert max(lengths) == pytest.approx(longest, rel=1e-3)
