"""Levels: the SNR estimate ranks clips by what was mixed in, and the active level does not hear pauses."""

import numpy as np
import pytest

from hlas.manifests.audio.files import to_pcm
from hlas.manifests.audio.levels import (
    active_energy,
    estimate_snr_db,
    frame_energies,
    measure_lufs,
    set_loudness,
    trim_silence,
)
from hlas.manifests.audio.options import Loudness, Trim

RATE = 16000


def bursts(seconds: float = 6.0, level: float = 0.2) -> np.ndarray:
    """Syllables of 0.3 s with pauses of 0.2 s, of digital silence."""
    t = np.arange(int(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * 220 * t) * (t % 0.5 < 0.3)).astype(np.float32)


def hiss(count: int, rms: float, seed: int = 0) -> np.ndarray:
    return (rms * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


@pytest.mark.parametrize("snr_db", [0, 5, 10, 20, 30])
def test_the_snr_estimate_is_near_what_was_mixed(snr_db: float) -> None:
    speech = bursts()
    noise_rms = np.sqrt(active_energy(speech, RATE) / 10 ** (snr_db / 10))
    mixed = to_pcm(speech + hiss(len(speech), noise_rms))
    assert estimate_snr_db(mixed, RATE) == pytest.approx(snr_db, abs=1.5)


def test_the_snr_estimate_does_not_depend_on_the_level_or_the_form() -> None:
    mixed = bursts() + hiss(6 * RATE, 0.01)
    estimate = estimate_snr_db(mixed.astype(np.float32), RATE)
    assert estimate_snr_db(to_pcm(mixed), RATE) == pytest.approx(estimate, abs=0.2)
    assert estimate_snr_db((0.3 * mixed).astype(np.float32), RATE) == estimate


def test_the_snr_estimate_is_finite_for_anything() -> None:
    for samples in (np.zeros(0), np.zeros(RATE), np.ones(3), bursts(), hiss(RATE, 0.1)):
        estimate = estimate_snr_db(samples.astype(np.float32), RATE)
        assert -20 <= estimate <= 100 and round(estimate, 1) == estimate
    assert estimate_snr_db(hiss(5 * RATE, 0.1), RATE) < -5  # noise alone


def test_frame_energies_are_mean_squares() -> None:
    samples = hiss(RATE + 100, 0.1)
    expected = [np.mean(samples[i : i + 320].astype(np.float64) ** 2) for i in range(0, RATE, 320)]
    assert frame_energies(samples, RATE) == pytest.approx(expected, rel=1e-5)
    assert frame_energies(samples[:7], RATE) == pytest.approx([np.mean(samples[:7] ** 2)], rel=1e-5)
    pcm = to_pcm(samples)
    assert frame_energies(pcm, RATE) == pytest.approx(expected, rel=1e-2)


def test_pauses_do_not_change_the_active_level() -> None:
    speech = bursts()
    slow = np.concatenate([speech, np.zeros(10 * RATE, dtype=np.float32)])
    assert active_energy(slow, RATE) == pytest.approx(active_energy(speech, RATE), rel=1e-6)
    assert active_energy(speech, RATE) == pytest.approx(0.2**2 / 2, rel=0.01)
    assert active_energy(np.zeros(RATE, dtype=np.float32), RATE) == 0.0


def test_silence_alone_is_not_trimmed_away() -> None:
    silence = np.zeros(RATE, dtype=np.float32)
    assert len(trim_silence(silence, RATE, Trim())) == RATE
    assert len(trim_silence(silence[:0], RATE, Trim())) == 0


def test_a_thousand_hertz_sine_has_the_loudness_of_the_standard() -> None:
    sine = np.sin(2 * np.pi * 997 * np.arange(5 * RATE) / RATE).astype(np.float32)
    assert measure_lufs(sine, RATE) == pytest.approx(-3.01, abs=0.1)  # ITU-R BS.1770-4, annex 1
    assert measure_lufs(sine[: RATE // 3], RATE) == float("-inf")
    assert not set_loudness(np.zeros(RATE, dtype=np.float32), RATE, Loudness()).any()


@pytest.mark.parametrize("wrong", [{"below_db": 0.0}, {"margin_s": -0.1}])
def test_a_trim_that_cuts_speech_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"audio\.trim"):
        Trim(**wrong)


@pytest.mark.parametrize("wrong", [{"target_lufs": 3.0}, {"peak_dbfs": 1.0}])
def test_a_loudness_beyond_full_scale_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"audio\.loudness"):
        Loudness(**wrong)
