"""Noise for training and for noisy test sets: coloured noise, and babble of several speakers talking at once.

Each clip depends on the seed, its kind and its number alone, so that any number of workers writes the same bytes.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from hlas.errors import UserError
from hlas.manifests.audio.files import Samples, load_utterance, to_pcm, write_audio
from hlas.manifests.audio.levels import active_energy
from hlas.manifests.rows import Row, read_manifest

Colour = Literal["white", "pink", "brown"]
_POWER_FALL = {"white": 0.0, "pink": 1.0, "brown": 2.0}  # power density ~ 1 / frequency ** fall
_LOWEST_HZ = 20.0  # flat below: nobody hears it, and brown noise would be little else
_LEVEL = 0.05  # RMS of a clip, full scale = 1; a mix sets its own


class NoiseJob(NamedTuple):
    """One clip to synthesise."""

    kind: str  # a colour, or 'babble'
    number: int  # from 0, within its kind


@dataclass(frozen=True, slots=True)
class NoiseMaker:
    """Synthesises noise clips; a function for `map_chunks`."""

    target: Path  # folder to write to, beside the manifest
    seed: int
    sample_rate_hz: int
    clip_s: float
    talkers: tuple[int, int]  # fewest and most voices of a babble clip
    speech: Path | None = None  # manifest that babble is mixed from

    def __call__(self, jobs: Sequence[NoiseJob]) -> list[Row]:
        """The manifest row of each clip; the clips are written."""
        voices = _voices(self.speech) if self.speech and any(job.kind == "babble" for job in jobs) else []
        return [self._make(job, voices) for job in jobs]

    def _make(self, job: NoiseJob, voices: list[list[Row]]) -> Row:
        rng = np.random.default_rng([self.seed, zlib.crc32(job.kind.encode()), job.number])
        count = round(self.clip_s * self.sample_rate_hz)
        if job.kind == "babble":
            samples = self._babble(count, voices, rng)
        else:
            samples = coloured(job.kind, count, self.sample_rate_hz, rng)
        rms, peak = float(np.sqrt(np.mean(samples**2))), float(np.abs(samples).max())
        samples = samples * np.float32(min(_LEVEL / (rms or 1), 0.99 / (peak or 1)))
        name = f"{job.kind}-{job.number:04d}.wav"
        write_audio(self.target / name, to_pcm(samples), self.sample_rate_hz)
        return Row(f"{self.target.name}/{name}", count / self.sample_rate_hz, "", source=f"noise/{job.kind}")

    def _babble(self, count: int, voices: list[list[Row]], rng: np.random.Generator) -> Samples:
        """Voices of equal level; a speaker talks twice only where there are too few."""
        talkers = int(rng.integers(self.talkers[0], self.talkers[1] + 1))
        chosen = rng.choice(len(voices), talkers, replace=talkers > len(voices))
        mixed = np.zeros(count, dtype=np.float32)
        for voice in chosen:
            mixed += self._talk(count, voices[voice], rng)
        return mixed

    def _talk(self, count: int, rows: list[Row], rng: np.random.Generator) -> Samples:
        """One speaker's utterances one after the other, begun anywhere, at an active level of 1."""
        assert self.speech is not None
        parts: list[Samples] = []
        length = 0
        while length < count:
            samples = load_utterance(rows[int(rng.integers(len(rows)))], self.speech.parent, self.sample_rate_hz)
            energy = active_energy(samples, self.sample_rate_hz)
            parts.append(samples / np.float32(np.sqrt(energy or 1.0)))
            length += len(samples)
        return np.roll(np.concatenate(parts), -int(rng.integers(length)))[:count]


def coloured(colour: str, count: int, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """Gaussian noise of `count` samples whose power density falls with the frequency as the colour says."""
    frequencies = np.maximum(np.fft.rfftfreq(count, 1 / sample_rate_hz), _LOWEST_HZ)
    spectrum = np.fft.rfft(rng.standard_normal(count)) / frequencies ** (_POWER_FALL[colour] / 2)
    spectrum[0] = 0  # no direct current
    samples = np.fft.irfft(spectrum, count)
    return np.asarray(samples / np.sqrt(np.mean(samples**2)), dtype=np.float32)


def _voices(speech: Path) -> list[list[Row]]:
    """The utterances of each speaker, in a fixed order; one whose speaker is not known is a voice of its own."""
    voices: dict[str, list[Row]] = {}
    for row in read_manifest(speech):
        voices.setdefault(row.speaker or f"\0{row.utterance}", []).append(row)
    if not voices:
        raise UserError(str(speech), "the manifest is empty", "give one with clips, or set babble.clips to 0")
    return [voices[name] for name in sorted(voices)]
