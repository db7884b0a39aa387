"""Clips of a corpus become 16 kHz mono files of 16-bit samples, or are probed and kept as they are.

A clip that gives no sound, or less than it states, is a result with a reason, not an exception.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hlas.manifests.audio.files import (
    DECODE_ERRORS,
    TOLERANCE_S,
    Samples,
    cut,
    decode,
    decode_part,
    is_seekable,
    peak,
    probe,
    read_made,
    refuse_special,
    to_mono,
    to_pcm,
    why,
    why_truncated,
    write_audio,
)
from hlas.manifests.audio.levels import estimate_snr_db, set_loudness, trim_silence
from hlas.manifests.audio.mp3 import has_all_bytes, scan_mp3
from hlas.manifests.audio.options import AudioOptions


class Job(NamedTuple):
    """One clip."""

    file: str  # below the corpus' audio folder, or absolute
    utterance: str  # names the converted clip
    stated_s: float | None = None  # duration of the file as the corpus states it
    offset_s: float | None = None  # where the utterance begins inside the file; None = at its start
    duration_s: float | None = None  # of the utterance inside the file; None = to its end


class Converted(NamedTuple):
    """What became of a clip."""

    duration_s: float
    path: str = ""  # a manifest row's audio_filepath; '' where there is a reason
    reason: str = ""  # '' = there is sound; else 'no_audio', 'empty_audio', 'truncated', 'undecodable' or 'silent'
    detail: str = ""
    snr_db: float | None = None  # see levels.estimate_snr_db; None for a file that is kept unheard


class Unusable(Exception):
    """A clip that gives no utterance, for a reason."""

    def __init__(self, reason: str, detail: str, duration_s: float = 0.0) -> None:
        super().__init__(reason, detail, duration_s)
        self.reason, self.detail, self.duration_s = reason, detail, duration_s


def audio_name(utterance: str, options: AudioOptions) -> str:
    """Name of the converted clip."""
    return f"{utterance}.{options.format}"


def kept_path(file: Path, manifest_folder: Path) -> str:
    """How a manifest in a stage's folder names a file that stays where it is.

    What lies in the store is named relative to the manifest, as the store may be copied elsewhere; audio from outside
    by its absolute path, as it stays behind.
    """
    folder, found = manifest_folder.resolve(), file.resolve()
    return os.path.relpath(found, folder) if found.is_relative_to(folder.parent) else str(found)


@dataclass(frozen=True, slots=True)
class Converter:
    """Converts a list of clips, or probes them where they are kept; a function for `map_chunks`."""

    source: Path  # folder that the jobs' files start from
    target: Path  # folder to write to, beside the manifests
    options: AudioOptions

    def __call__(self, jobs: Sequence[Job]) -> list[Converted]:
        """One result a job; a clip that an earlier, killed run wrote is not made again."""
        source = _Source(self.source)
        out = []
        for job in jobs:
            try:
                out.append(self._keep(job) if self.options.format == "keep" else self._convert(job, source))
            except Unusable as bad:
                out.append(Converted(bad.duration_s, reason=bad.reason, detail=bad.detail))
        return out

    def is_made(self, job: Job) -> bool:
        """Whether the clip is there and whole, so that its source is not needed."""
        return self.options.format != "keep" and read_made(self._path(job)) is not None

    def _path(self, job: Job) -> Path:
        return self.target / audio_name(job.utterance, self.options)

    def _keep(self, job: Job) -> Converted:
        file = self.source / job.file
        found = probe(file)
        if found.reason:
            raise Unusable(found.reason, found.detail, found.duration_s)
        if truncated := why_truncated(found.duration_s, job.stated_s, None):
            raise Unusable("truncated", truncated, found.duration_s)
        rest_s = found.duration_s - (job.offset_s or 0.0)
        if cut_short := why_truncated(rest_s, job.duration_s, None):
            raise Unusable("truncated", cut_short, max(rest_s, 0.0))
        if rest_s <= 0:
            raise Unusable("truncated", f"begins at {job.offset_s:.2f} s of {found.duration_s:.2f} s")
        duration_s = rest_s if job.duration_s is None else min(job.duration_s, rest_s)
        return Converted(duration_s, kept_path(file, self.target.parent))

    def _convert(self, job: Job, source: "_Source") -> Converted:
        target = self._path(job)
        made = read_made(target)
        if made is None or made[1] != self.options.sample_rate_hz:
            pcm = to_pcm(self._process(*source.read(job)))
            write_audio(target, pcm, self.options.sample_rate_hz)
        else:
            pcm = made[0]
        rate = self.options.sample_rate_hz
        return Converted(len(pcm) / rate, f"{self.target.name}/{target.name}", snr_db=estimate_snr_db(pcm, rate))

    def _process(self, samples: Samples, source_rate_hz: int) -> Samples:
        """The clip as it is written, (samples, channels) -> (samples,)."""
        rate = self.options.sample_rate_hz
        mono = to_mono(samples, source_rate_hz, rate)
        if self.options.trim:
            mono = trim_silence(mono, rate, self.options.trim)
        return set_loudness(mono, rate, self.options.loudness) if self.options.loudness else mono


class _Source:
    """Reads what the jobs ask for; a file that several utterances are cut from is decoded once in a row."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: tuple[str, Samples, int] | None = None

    def read(self, job: Job) -> tuple[Samples, int]:
        """Samples (samples, channels) of the utterance and their rate in Hz; raises Unusable."""
        whole = job.offset_s is None and job.duration_s is None
        if not whole and is_seekable(Path(job.file)):
            samples, rate = self._part(job)
        else:
            samples, rate = self._whole(job)
            samples = cut(samples, rate, job.offset_s or 0.0, job.duration_s)
        duration_s = len(samples) / rate
        if truncated := why_truncated(duration_s, job.duration_s, None):
            raise Unusable("truncated", truncated, duration_s)
        loudest = peak(samples)
        if not loudest:
            raise Unusable("silent" if len(samples) else "empty_audio", "no sample but zeros", duration_s)
        if not math.isfinite(loudest):
            raise Unusable("undecodable", "samples that are no numbers (NaN or infinite)", duration_s)
        return samples, rate

    def _part(self, job: Job) -> tuple[Samples, int]:
        try:
            refuse_special(self._folder / job.file)
            samples, rate, _ = decode_part(self._folder / job.file, job.offset_s or 0.0, job.duration_s)
        except OSError as error:
            raise Unusable("no_audio", error.strerror or str(error)) from error
        except DECODE_ERRORS as error:
            raise Unusable("undecodable", why(error)) from error
        return samples, rate

    def _whole(self, job: Job) -> tuple[Samples, int]:
        if self._last and self._last[0] == job.file:
            return self._last[1:]
        path = self._folder / job.file
        try:
            refuse_special(path)
            data = path.read_bytes()
        except OSError as error:
            raise Unusable("no_audio", error.strerror or str(error)) from error
        if not data:
            raise Unusable("empty_audio", "no bytes")
        mp3 = None
        if path.suffix.lower() == ".mp3" and not has_all_bytes(
            data
        ):  # those whole by their header need no look at frames
            mp3 = scan_mp3(data)
        if mp3 and mp3.missing_s > TOLERANCE_S:
            raise Unusable("truncated", why_truncated(0.0, None, mp3))
        try:
            samples, rate = decode(path, data, mp3)
        except DECODE_ERRORS as error:
            raise Unusable("undecodable", why(error)) from error
        if truncated := why_truncated(len(samples) / rate, job.stated_s, mp3):
            raise Unusable("truncated", truncated, len(samples) / rate)
        self._last = (job.file, samples, rate)
        return samples, rate
