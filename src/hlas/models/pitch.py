"""A perturbation that NeMo lacks: a clip in a higher or lower voice, as long as it was (`augmentor: {pitch: …}`)."""

import random
from typing import Any

import librosa
from nemo.collections.asr.parts.preprocessing.perturb import Perturbation, perturbation_types, register_perturbation

WINDOW = 512  # samples; 32 ms at 16 kHz, as long as speech stands still


class PitchPerturbation(Perturbation):  # type: ignore[misc]  # NeMo is untyped here
    """Multiplies all frequencies by 2^(semitones / 12); semitones are drawn evenly between the two bounds.

    A phase vocoder stretches the clip (Flanagan and Golden 1966), and resampling brings it back to its length.
    """

    def __init__(self, min_semitones: float = -2.0, max_semitones: float = 2.0) -> None:
        self.min_semitones, self.max_semitones = min_semitones, max_semitones

    def perturb(self, data: Any) -> None:
        """Change a NeMo AudioSegment in place."""
        semitones = random.uniform(self.min_semitones, self.max_semitones)
        data._samples = librosa.effects.pitch_shift(
            data._samples, sr=data.sample_rate, n_steps=semitones, n_fft=WINDOW, res_type="soxr_hq"
        )


def register_pitch() -> None:
    """Let NeMo know it by its name; a second call does nothing."""
    if "pitch" not in perturbation_types:
        register_perturbation("pitch", PitchPerturbation)
