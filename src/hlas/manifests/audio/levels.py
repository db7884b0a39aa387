"""Levels of speech: an SNR estimate, silence at the ends, one loudness, and the active-speech level of a mix.

All of it works on frames of 20 ms and is deterministic; below `converter`, `noisy_stage` and the augmentation sets.
"""

import math
import warnings
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from hlas.manifests.audio.files import Samples
    from hlas.manifests.audio.options import Loudness, Trim

FRAME_S = 0.02
ACTIVE_BELOW_DB = 30.0  # a frame this far below the loudest one is no speech
_QUANTISATION = 1 / 12 / 32768**2  # mean square of the rounding to 16 bits, full scale = 1
_BLOCK_S = 0.4  # BS.1770 measures nothing shorter
_SNR_RANGE_DB = (-20.0, 100.0)
AnySamples: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.int16]  # between -1 and 1, or 16-bit


def frame_energies(samples: AnySamples, sample_rate_hz: int) -> npt.NDArray[np.float64]:
    """Mean squares of the consecutive frames of 20 ms, (frames,), full scale = 1; a last, shorter frame is left out.

    Samples shorter than a frame are one frame.
    """
    if not len(samples):
        return np.zeros(0)
    size = min(round(FRAME_S * sample_rate_hz), len(samples))
    frames = samples[: len(samples) // size * size].astype(np.float32).reshape(-1, size)
    full_scale = 32768.0 if samples.dtype == np.int16 else 1.0
    squares: npt.NDArray[np.float64] = np.einsum("ij,ij->i", frames, frames).astype(np.float64)
    return squares / (size * full_scale**2)


def estimate_snr_db(samples: AnySamples, sample_rate_hz: int) -> float:
    """How far the loud frames of a clip stand above its quiet ones, in dB, one decimal, -20 to 100.

    The noise is the 10th percentile of the frame energies, speech with noise the 80th; the estimate is
    10 log10((speech with noise - noise) / noise). It takes the pauses for noise alone: a clip without pauses is
    estimated too low, one whose noise comes and goes too high. With white noise mixed into read speech at 0 to 30 dB it
    is 1 to 2 dB too high, with babble at 0 dB 6. It ranks clips and finds bad ones; it is no measurement (for that, see
    the SNR that the stage `noisy` sets).
    """
    energies = np.maximum(np.sort(frame_energies(samples, sample_rate_hz)), _QUANTISATION)
    if not len(energies):
        return _SNR_RANGE_DB[0]
    noise, loud = (energies[int(share * (len(energies) - 1))] for share in (0.1, 0.8))
    snr_db = 10 * math.log10(max(loud - noise, noise / 100) / noise)
    return round(min(max(snr_db, _SNR_RANGE_DB[0]), _SNR_RANGE_DB[1]), 1)


def active_energy(samples: AnySamples, sample_rate_hz: int) -> float:
    """Mean square over the active frames: those within 30 dB of the loudest frame of 20 ms. 0.0 for digital silence.

    Pauses would lower the level of a clip, and so the noise that a given SNR means, by how long the speaker waits.
    """
    energies = frame_energies(samples, sample_rate_hz)
    if not len(energies) or not energies.max():
        return 0.0
    return float(energies[energies > energies.max() * 10 ** (-ACTIVE_BELOW_DB / 10)].mean())


def trim_silence(samples: "Samples", sample_rate_hz: int, trim: "Trim") -> "Samples":
    """The samples from the first to the last frame that is not silence, with the margin at both ends."""
    energies = frame_energies(samples, sample_rate_hz)
    loud = np.flatnonzero(energies > energies.max(initial=0.0) * 10 ** (-trim.below_db / 10))
    if not len(loud):
        return samples
    size, margin = round(FRAME_S * sample_rate_hz), round(trim.margin_s * sample_rate_hz)
    end = len(samples) if loud[-1] == len(energies) - 1 else (loud[-1] + 1) * size + margin
    return samples[max(0, loud[0] * size - margin) : end]


def set_loudness(samples: "Samples", sample_rate_hz: int, loudness: "Loudness") -> "Samples":
    """The samples at the integrated loudness of ITU-R BS.1770-4, or at the highest peak allowed where that is less.

    A clip shorter than its block of 0.4 s, or so soft that no block passes its gate, gets the peak.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if not peak:
        return samples
    gain = 10 ** (loudness.peak_dbfs / 20) / peak
    measured = measure_lufs(samples, sample_rate_hz)
    if np.isfinite(measured):
        gain = min(gain, 10 ** ((loudness.target_lufs - measured) / 20))
    return (samples * np.float32(gain)).astype(np.float32)


def measure_lufs(samples: "Samples", sample_rate_hz: int) -> float:
    """Integrated loudness by ITU-R BS.1770-4 in LUFS; -inf where there is nothing to measure."""
    import pyloudnorm

    if len(samples) < round(_BLOCK_S * sample_rate_hz):
        return float("-inf")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unmeasurable clip is -inf, and that is handled
        return float(pyloudnorm.Meter(sample_rate_hz).integrated_loudness(samples.astype(np.float64)))
