"""Audio files in process: samples decoded by libsndfile or miniaudio and resampled by soxr, durations from headers.

Below `converter` (clips of a corpus), the augmentation sets and every stage that hears a manifest.
"""

import errno
import io
import math
import os
import stat
import struct
from pathlib import Path
from typing import NamedTuple

import miniaudio
import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from hlas.errors import UserError
from hlas.manifests.audio.mp3 import Mp3, has_all_bytes, scan_mp3
from hlas.manifests.rows import Row, audio_path

Samples = npt.NDArray[np.float32]  # mono, between -1 and 1
DECODE_ERRORS = (soundfile.LibsndfileError, RuntimeError, miniaudio.MiniaudioError)
# A clip may be this much shorter than stated: probes of the duration differ by up to 0.07 s, encoders pad by 0.1 s.
TOLERANCE_S = 0.25
_SEEKABLE = (".wav", ".flac")  # libsndfile finds a sample of these without decoding what stands before it
_WAV_HEADER_BYTES = 44


class Probe(NamedTuple):
    """What a file's headers say."""

    duration_s: float
    reason: str = ""  # '' = a decoder should hear it; else 'no_audio', 'empty_audio', 'truncated' or 'undecodable'
    detail: str = ""


def refuse_special(path: Path) -> None:
    """OSError where a path leads to no regular file: a pipe or a device could be read for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file")


def decode(path: Path, data: bytes, mp3: Mp3 | None) -> tuple[npt.NDArray[np.float32], int]:
    """Samples (samples, channels) and their rate in Hz; `data` are the bytes of an MP3.

    libsndfile ends an MP3 where its header says, and without one where the first frame's bit rate makes it guess:
    a file with a variable rate would lose its end. miniaudio decodes what is there.
    """
    if mp3 and mp3.stated_frames != mp3.frames:
        decoded = miniaudio.mp3_read_f32(data)
        samples = np.frombuffer(decoded.samples, dtype=np.float32).reshape(-1, decoded.nchannels)
        return samples, int(decoded.sample_rate)
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return samples, int(rate)


def decode_part(path: Path, start_s: float, duration_s: float | None) -> tuple[npt.NDArray[np.float32], int, float]:
    """Samples (samples, channels) of a part of a file, their rate in Hz, and the duration of the whole in seconds."""
    with path.open("rb") as raw, soundfile.SoundFile(raw) as file:
        rate, total = file.samplerate, file.frames
        file.seek(min(round(start_s * rate), total))
        samples = file.read(-1 if duration_s is None else round(duration_s * rate), dtype="float32", always_2d=True)
    return samples, int(rate), total / rate


def why(error: Exception) -> str:
    """What a decoder or the system says, without the name of what it read."""
    return str(getattr(error, "error_string", None) or getattr(error, "strerror", None) or error)


def is_seekable(path: Path) -> bool:
    """Whether a part of the file costs only as much as the part."""
    return path.suffix.lower() in _SEEKABLE


def to_mono(samples: npt.NDArray[np.float32], rate: int, wanted_rate: int) -> Samples:
    """The mean of the channels, (samples, channels) -> (samples at the wanted rate,)."""
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    mono = np.ascontiguousarray(mono)
    return mono if rate == wanted_rate else soxr.resample(mono, rate, wanted_rate, quality="HQ")


def load_audio(path: Path, sample_rate_hz: int, offset_s: float = 0.0, duration_s: float | None = None) -> Samples:
    """Samples of a file or of a part of it, (samples,), mono, between -1 and 1, at the given rate."""
    whole = not offset_s and duration_s is None
    try:
        refuse_special(path)
        if not whole and is_seekable(path):
            samples, rate, _ = decode_part(path, offset_s, duration_s)
        else:
            data = path.read_bytes() if path.suffix.lower() == ".mp3" else b""
            samples, rate = decode(path, data, scan_mp3(data))
            samples = cut(samples, rate, offset_s, duration_s)
    except (OSError, *DECODE_ERRORS) as error:
        problem = f"cannot be {'read' if isinstance(error, OSError) else 'decoded'}: {why(error)}"
        raise UserError(str(path), problem, "give a WAV, FLAC, OGG or MP3 file") from error
    if not samples.size or not math.isfinite(peak(samples)):
        problem = "holds no samples" if not samples.size else "holds samples that are no numbers (NaN or infinite)"
        raise UserError(str(path), problem, "record or convert it again")
    return to_mono(samples, rate, sample_rate_hz)


def load_utterance(row: Row, manifest_folder: Path, sample_rate_hz: int) -> Samples:
    """Samples of a manifest's row, (samples,), mono, between -1 and 1, also where it is a part of a file."""
    duration_s = None if row.offset is None else row.duration
    return load_audio(audio_path(row, manifest_folder), sample_rate_hz, row.offset or 0.0, duration_s)


def cut(samples: npt.NDArray[np.float32], rate: int, offset_s: float, duration_s: float | None) -> Samples:
    """A part of the samples (samples, channels), to the end without a duration."""
    start = round(offset_s * rate)
    return samples[start : None if duration_s is None else start + round(duration_s * rate)]


def probe(path: Path) -> Probe:
    """Duration of a file from its headers, exact to the sample; of an MP3 also whether it is whole, as it states."""
    try:
        refuse_special(path)
        if path.suffix.lower() == ".mp3":
            with path.open("rb") as file:
                data = file.read()
            if not data:
                return Probe(0.0, "empty_audio", "no bytes")
            info = miniaudio.mp3_get_info(data)
            duration_s, mp3 = info.num_frames / info.sample_rate, None if has_all_bytes(data) else scan_mp3(data)
        else:
            if not path.stat().st_size:
                return Probe(0.0, "empty_audio", "no bytes")
            sound = soundfile.info(path)
            duration_s, mp3 = sound.frames / sound.samplerate, None
    except OSError as error:
        return Probe(0.0, "no_audio", error.strerror or str(error))
    except DECODE_ERRORS as error:
        return Probe(0.0, "undecodable", why(error))
    if not duration_s:
        return Probe(0.0, "empty_audio", "no samples")
    truncated = why_truncated(duration_s, None, mp3)
    return Probe(duration_s, "truncated" if truncated else "", truncated)


def why_truncated(heard_s: float, stated_s: float | None, mp3: Mp3 | None) -> str:
    """How a clip is cut, '' if it is not, by its own header, its stated length or its end.

    Without any statement of the length, a file that ends inside a frame is taken for cut: encoders write whole frames.
    """
    if mp3 and mp3.missing_s > TOLERANCE_S:
        return f"{mp3.frames * mp3.frame_s:.2f} s of {(mp3.stated_frames or 0) * mp3.frame_s:.2f} s"
    if stated_s:
        missing = stated_s - heard_s
        return f"{heard_s:.2f} s of {stated_s:.2f} s" if missing > TOLERANCE_S else ""
    if mp3 and mp3.cut and mp3.stated_frames is None:
        return f"the file ends inside a frame, after {heard_s:.2f} s"
    return ""


def peak(samples: npt.NDArray[np.float32]) -> float:
    """The largest absolute value, 0.0 without samples; NaN or infinite where any sample is."""
    return max(float(samples.max()), -float(samples.min())) if samples.size else 0.0


def to_pcm(samples: Samples) -> npt.NDArray[np.int16]:
    """16-bit samples; what is beyond -1 and 1 is limited and does not wrap around."""
    limited = np.clip(samples, -1.0, 1.0)
    limited *= 32767
    return np.rint(limited, out=limited).astype(np.int16)


def write_audio(path: Path, pcm: npt.NDArray[np.int16], sample_rate_hz: int) -> None:
    """Write a mono WAV or FLAC file of 16-bit samples whole or not at all; UserError where it cannot be written."""
    parts: tuple[bytes | memoryview, ...]
    if path.suffix == ".wav":
        parts = (wav_header(len(pcm), sample_rate_hz), pcm.astype("<i2", copy=False).data)
    else:
        encoded = io.BytesIO()
        soundfile.write(encoded, pcm, sample_rate_hz, format=path.suffix[1:].upper(), subtype="PCM_16")
        parts = (encoded.getbuffer(),)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.writelines(parts)
        part.replace(path)
    except OSError as error:
        problem = f"cannot be written: {error.strerror or error}"
        raise UserError(str(path), problem, "make room and run it again: what is written stays") from error
    finally:
        part.unlink(missing_ok=True)


def wav_header(frames: int, sample_rate_hz: int) -> bytes:
    """The 44 bytes before mono 16-bit samples (RIFF/WAVE, format 1)."""
    size = 2 * frames
    form = (16, 1, 1, sample_rate_hz, 2 * sample_rate_hz, 2, 16)  # bytes, PCM, channels, rate, bytes a second, …
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size + 36, b"WAVE", b"fmt ", *form, b"data", size)


def read_made(path: Path) -> tuple[npt.NDArray[np.int16], int] | None:
    """Samples and rate of a file that `write_audio` made, if it is there, whole and not empty, else None."""
    try:
        if path.suffix == ".wav":
            data = path.read_bytes()
            if len(data) <= _WAV_HEADER_BYTES:
                return None
            pcm, rate = np.frombuffer(data, "<i2", offset=_WAV_HEADER_BYTES), int.from_bytes(data[24:28], "little")
            return (pcm, rate) if data[:_WAV_HEADER_BYTES] == wav_header(len(pcm), rate) else None
        pcm, rate = soundfile.read(path, dtype="int16")
    except (OSError, ValueError, *DECODE_ERRORS):
        return None
    return (pcm, int(rate)) if len(pcm) else None
