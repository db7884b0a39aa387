"""Clips become 16 kHz mono files of 16-bit samples: decoded by libsndfile or miniaudio, resampled by soxr.

A clip that gives no sound, or less than it states, is a result with a reason, not an exception.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import miniaudio
import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from hlas.errors import UserError
from hlas.manifests.mp3 import Mp3, scan_mp3

# A clip may be this much shorter than stated: probes of the duration differ by up to 0.07 s, encoders pad by 0.1 s.
TOLERANCE_S = 0.25

_DECODE_ERRORS = (soundfile.LibsndfileError, RuntimeError, miniaudio.MiniaudioError)


class Job(NamedTuple):
    """One clip to convert."""

    file: str  # below the release's clips folder
    stated_s: float | None  # its duration as the release states it


class Converted(NamedTuple):
    """What became of a clip."""

    duration_s: float
    reason: str = ""  # '' = there is a file; else 'no_audio', 'empty_audio', 'truncated', 'undecodable' or 'silent'
    detail: str = ""


def audio_name(file: str, audio_format: str) -> str:
    """Name of the converted clip; clips of one stem would share it, so the stem names an utterance."""
    return f"{PurePosixPath(file).stem}.{audio_format}"


@dataclass(frozen=True, slots=True)
class Converter:
    """Converts a list of clips; a function for `map_chunks`."""

    source: Path  # folder of the release's clips
    target: Path  # folder to write to
    audio_format: str  # 'wav' or 'flac'
    sample_rate_hz: int

    def __call__(self, jobs: Sequence[Job]) -> list[Converted]:
        """One result a job; a clip that an earlier, killed run wrote is not made again."""
        return [self._convert(job) for job in jobs]

    def _convert(self, job: Job) -> Converted:
        target = self.target / audio_name(job.file, self.audio_format)
        if (duration_s := made_duration(target)) is not None:
            return Converted(duration_s)
        source = self.source / job.file
        try:
            data = source.read_bytes()
        except OSError as error:
            return Converted(0.0, "no_audio", error.strerror or str(error))
        if not data:
            return Converted(0.0, "empty_audio", "no bytes")
        mp3 = scan_mp3(data) if source.suffix.lower() == ".mp3" else None
        if mp3 and mp3.missing_s > TOLERANCE_S:
            detail = f"{mp3.frames * mp3.frame_s:.2f} s of {(mp3.stated_frames or 0) * mp3.frame_s:.2f} s"
            return Converted(0.0, "truncated", detail)
        try:
            samples, rate = _decode(source, data, mp3)
        except _DECODE_ERRORS as error:
            return Converted(0.0, "undecodable", str(error).replace(str(source), job.file))
        duration_s = len(samples) / rate
        if truncated := _truncated(duration_s, job.stated_s, mp3):
            return Converted(duration_s, "truncated", truncated)
        if not samples.any():
            return Converted(duration_s, "silent" if len(samples) else "empty_audio", "no sample but zeros")
        mono = _mono(samples, rate, self.sample_rate_hz)
        self._write(target, mono)
        return Converted(len(mono) / self.sample_rate_hz)

    def _write(self, target: Path, mono: npt.NDArray[np.float32]) -> None:
        pcm = np.rint(np.clip(mono, -1.0, 1.0) * 32767).astype(np.int16)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            soundfile.write(part, pcm, self.sample_rate_hz, format=self.audio_format.upper(), subtype="PCM_16")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def load_audio(path: Path, sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """Samples of a file, (samples,), mono, between -1 and 1, at the given rate."""
    try:
        data = path.read_bytes() if path.suffix.lower() == ".mp3" else b""
        samples, rate = _decode(path, data, scan_mp3(data))
    except (OSError, *_DECODE_ERRORS) as error:
        raise UserError(str(path), f"cannot be decoded: {error}", "give a WAV, FLAC, OGG or MP3 file") from error
    if not samples.size or not np.isfinite(samples).all():
        problem = "holds no samples" if not samples.size else "holds samples that are no numbers (NaN or infinite)"
        raise UserError(str(path), problem, "record or convert it again")
    return _mono(samples, rate, sample_rate_hz)


def _decode(path: Path, data: bytes, mp3: Mp3 | None) -> tuple[npt.NDArray[np.float32], int]:
    """Samples (samples, channels) and their rate in Hz.

    libsndfile ends an MP3 where its header says, and without one where the first frame's bit rate makes it guess:
    a file with a variable rate would lose its end. miniaudio decodes what is there.
    """
    if mp3 and mp3.stated_frames != mp3.frames:
        decoded = miniaudio.mp3_read_f32(data)
        samples = np.frombuffer(decoded.samples, dtype=np.float32).reshape(-1, decoded.nchannels)
        return samples, int(decoded.sample_rate)
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return samples, int(rate)


def _mono(samples: npt.NDArray[np.float32], rate: int, wanted_rate: int) -> npt.NDArray[np.float32]:
    """The mean of the channels, (samples, channels) -> (samples at the wanted rate,)."""
    mono: npt.NDArray[np.float32] = np.ascontiguousarray(samples.mean(axis=1))
    return mono if rate == wanted_rate else soxr.resample(mono, rate, wanted_rate, quality="HQ")


def _truncated(decoded_s: float, stated_s: float | None, mp3: Mp3 | None) -> str:
    """How a decoded clip is cut, '' if it is not, as far as that can be told.

    Without any statement of the length, a file that ends inside a frame is taken for cut: encoders write whole frames.
    """
    if stated_s:
        missing = stated_s - decoded_s
        return f"{decoded_s:.2f} s of {stated_s:.2f} s" if missing > TOLERANCE_S else ""
    if mp3 and mp3.cut and mp3.stated_frames is None:
        return f"the file ends inside a frame, after {decoded_s:.2f} s"
    return ""


def made_duration(path: Path) -> float | None:
    """Seconds of a converted clip that is there and whole (a crash of the machine can leave less), else None."""
    try:
        size = path.stat().st_size
        if path.suffix == ".wav":
            with path.open("rb") as file:
                if int.from_bytes(file.read(8)[4:], "little") + 8 != size:
                    return None
            info = soundfile.info(path)
            return float(info.frames / info.samplerate) or None
        samples, rate = soundfile.read(path, dtype="int16")
    except (OSError, soundfile.LibsndfileError, RuntimeError):
        return None
    return float(len(samples) / rate) or None
