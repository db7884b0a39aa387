"""Speech with noise and rooms at a level that is measured, not guessed: what the stage `noisy` does to each clip.

The SNR of a mix is 10 log10(E / N) in dB: E the mean square of the speech over its active frames (see levels), N the
mean square of the noise over the whole clip. Where there is a room, E is that of the speech as the room gives it back.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hlas.manifests.audio.files import Samples, load_audio, load_utterance, to_pcm, write_audio
from hlas.manifests.audio.levels import active_energy, estimate_snr_db
from hlas.manifests.rows import Row, audio_path, read_manifest

_PEAK = 0.999  # a louder mix is made softer as a whole, which leaves its SNR


@dataclass(frozen=True, slots=True)
class Mixer:
    """Writes the noisy clips of rows of one manifest; a function for `map_chunks`.

    What a clip is mixed with depends on the seed and the utterance's name, not on the SNR: the same piece of noise and
    the same room at every level, so that levels are compared on like terms.
    """

    source: Path  # folder of the manifest
    target: Path  # folder to write to, beside the new manifest
    seed: int
    sample_rate_hz: int
    snr_db: float | None  # None without noise
    noise: Path | None  # manifest
    rooms: Path | None  # manifest

    def __call__(self, rows: Sequence[Row]) -> list[Row]:
        """The row of each noisy clip."""
        noise = read_manifest(self.noise) if self.noise else []
        rooms = read_manifest(self.rooms) if self.rooms else []
        return [self._mix(row, noise, rooms) for row in rows]

    def _mix(self, row: Row, noise: list[Row], rooms: list[Row]) -> Row:
        name = int.from_bytes(hashlib.sha256(row.utterance.encode()).digest()[:8], "little")
        rng = np.random.default_rng([self.seed, name])
        room_number, noise_number, start = rng.random(3)  # drawn whether used or not: a room changes no noise
        samples = load_utterance(row, self.source, self.sample_rate_hz)
        if self.rooms:
            room = rooms[int(room_number * len(rooms))]
            samples = reverberate(samples, load_utterance(room, self.rooms.parent, self.sample_rate_hz))
        if self.noise and self.snr_db is not None:
            piece = self._piece(noise[int(noise_number * len(noise))], float(start), len(samples))
            samples = add_noise(samples, piece, self.snr_db, self.sample_rate_hz)
        samples = limited(samples)
        pcm = to_pcm(samples)
        path = self.target / f"{row.utterance}.wav"
        write_audio(path, pcm, self.sample_rate_hz)
        return replace(
            row,
            audio_filepath=f"{self.target.name}/{path.name}",
            duration=len(pcm) / self.sample_rate_hz,
            offset=None,
            snr_db=estimate_snr_db(pcm, self.sample_rate_hz),
        )

    def _piece(self, row: Row, start: float, count: int) -> Samples:
        """`count` samples of a noise clip from the given share of where they can start; a short clip goes round."""
        assert self.noise is not None
        wanted_s, folder = count / self.sample_rate_hz, self.noise.parent
        if row.duration <= wanted_s:
            samples = load_utterance(row, folder, self.sample_rate_hz)
            return np.resize(np.roll(samples, -int(start * len(samples))), count)
        offset_s = (row.offset or 0.0) + start * (row.duration - wanted_s)
        samples = load_audio(audio_path(row, folder), self.sample_rate_hz, offset_s, wanted_s)
        return np.resize(samples, count)  # resampling may give one sample more or less


def add_noise(speech: Samples, noise: Samples, snr_db: float, sample_rate_hz: int) -> Samples:
    """Both added up, (samples,), the noise at the level that makes the SNR; silence on either side adds nothing."""
    energy, noise_energy = active_energy(speech, sample_rate_hz), float(np.mean(noise.astype(np.float64) ** 2))
    if not energy or not noise_energy:
        return speech
    return speech + noise * np.float32(np.sqrt(energy / noise_energy / 10 ** (snr_db / 10)))


def reverberate(speech: Samples, response: Samples) -> Samples:
    """Speech as a room gives it back, (samples,): of the same length, at the same RMS, its direct sound in place."""
    direct = int(np.abs(response).argmax())
    size = 1 << (len(speech) + len(response) - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(speech, size) * np.fft.rfft(response, size), size)[direct : direct + len(speech)]
    before, after = float(np.mean(speech.astype(np.float64) ** 2)), float(np.mean(wet**2))
    return (wet * np.sqrt(before / after)).astype(np.float32) if after else speech


def limited(samples: Samples) -> Samples:
    """The samples, made softer where they are too loud for 16 bits."""
    peak = float(np.abs(samples).max(initial=0.0))
    return samples * np.float32(_PEAK / peak) if peak > _PEAK else samples
