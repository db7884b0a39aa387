"""Audio on the page: clips inside the file, the worst utterances' first and no more than a limit, links for the rest.

MP3 and Ogg clips go in as they are, cut or uncompressed ones as small mono MP3s: every browser plays those.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hlas.parallel import map_chunks

AudioMode = Literal["embed", "link", "none"]

_AS_THEY_ARE = {".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg"}
_QUALITY = 0.9  # of libsndfile's 0 (best) to 1 (smallest): about 30 kbit/s for speech at 16 kHz


@dataclass(frozen=True, slots=True)
class Cut:
    """Where an utterance's audio is."""

    path: Path
    offset_s: float | None  # None = the file from its start
    duration_s: float


@dataclass(frozen=True, slots=True)
class Clip:
    """Audio as a page holds it; an empty one stands for a file that could not be read."""

    media_type: str
    base64: str


def embedded_clips(cuts: Mapping[int, Cut], limit_bytes: int, workers: int | None) -> dict[int, Clip]:
    """The first of the clips, in their order, that fit together into `limit_bytes` of base64; unreadable ones not."""
    kept: dict[int, Clip] = {}
    size = 0
    for key, clip in zip(cuts, map_chunks(encode, list(cuts.values()), workers=workers), strict=True):
        if size + len(clip.base64) > limit_bytes:
            break  # the map ends with it: what it has not begun is not encoded
        if clip.base64:
            kept[key] = clip
            size += len(clip.base64)
    return kept


def encode(cuts: Sequence[Cut]) -> list[Clip]:
    """One clip a cut; a function for `map_chunks`."""
    return [_encode(cut) for cut in cuts]


def _encode(cut: Cut) -> Clip:
    import soundfile

    kind = _AS_THEY_ARE.get(cut.path.suffix.lower())
    try:
        if kind and cut.offset_s is None:
            return Clip(kind, _text(cut.path.read_bytes()))
        with soundfile.SoundFile(cut.path) as file:
            file.seek(round((cut.offset_s or 0.0) * file.samplerate))
            samples = file.read(round(cut.duration_s * file.samplerate), dtype="float32", always_2d=True)
            rate = file.samplerate
        packed = io.BytesIO()
        soundfile.write(
            packed,
            samples.mean(axis=1),
            rate,
            format="MP3",
            subtype="MPEG_LAYER_III",
            bitrate_mode="VARIABLE",
            compression_level=_QUALITY,
        )
    except (OSError, soundfile.LibsndfileError):
        return Clip("", "")  # moved or broken since it was scored: the report is about the texts, and goes on
    return Clip("audio/mpeg", _text(packed.getvalue()))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
