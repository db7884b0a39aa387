"""Whether an MP3 file is whole, from its frame headers: decoders pass over a cut file without a word.

Layout (ISO/IEC 11172-3, 13818-3; the Xing/Info header is LAME's): frames that each state their own length; the first
may hold the number of frames in place of audio.
"""

from dataclasses import dataclass
from functools import cache

_KBITS_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # MPEG-1 layer III, index from 1
_KBITS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # MPEG-2 and 2.5 layer III
_RATES_HZ = (44100, 48000, 32000)  # of MPEG-1; MPEG-2 has half, 2.5 a quarter
_TAGS = (b"TAG", b"APE", b"ID3", b"LYR")  # what may follow the last frame


@dataclass(frozen=True, slots=True)
class Mp3:
    """What the frame headers of a file say."""

    frames: int  # whole frames of audio
    stated_frames: int | None  # of audio, as the header says; None without a header
    frame_s: float
    cut: bool  # the last frame goes on beyond the end of the file

    @property
    def missing_s(self) -> float:
        """Seconds that the header states and the file lacks; 0 without a header."""
        return max(0, (self.stated_frames or 0) - self.frames) * self.frame_s


@cache
def _lengths() -> dict[int, tuple[int, float]]:
    """Bytes 2 and 3 of a frame header -> (bytes of the frame, seconds of the frame), layer III only."""
    out = {}
    for version, slots, divide, kbits in ((3, 144, 1, _KBITS_1), (2, 72, 2, _KBITS_2), (0, 72, 4, _KBITS_2)):
        for rate_index, rate in enumerate(_RATES_HZ):
            hz = rate // divide
            for index, kbit in enumerate(kbits, 1):
                for low in range(16):  # bit 1: padding; bit 0: private; bits 2 and 3: sampling rate
                    if low >> 2 != rate_index:
                        continue
                    length = slots * kbit * 1000 // hz + (low >> 1 & 1)
                    for unprotected in (0, 1):
                        second = 0b11100000 | version << 3 | 1 << 1 | unprotected
                        out[second << 8 | index << 4 | low] = (length, slots * 8 / hz)
    return out


def scan_mp3(data: bytes) -> Mp3 | None:
    """Walk the frames of a file; None where it is no plain layer III stream (then only a decoder can tell)."""
    lengths = _lengths()
    end = len(data)
    at = _after_id3(data)
    while at + 4 <= end and not (data[at] == 0xFF and data[at + 1] << 8 | data[at + 2] in lengths):
        if data[at] != 0:  # padding after the tag is zeros
            return None
        at += 1
    if at + 4 > end:
        return None
    length, frame_s = lengths[data[at + 1] << 8 | data[at + 2]]
    stated = _stated_frames(data[at : at + min(length, 64)])
    frames = 0 if stated is None else -1  # the header's own frame is no audio
    cut = False
    while at + 3 <= end:
        if data[at] != 0xFF or (known := lengths.get(data[at + 1] << 8 | data[at + 2])) is None:
            if data[at : at + 3] in _TAGS or not any(data[at:]):
                break
            return None
        at += known[0]
        if at > end:
            cut = True
            break
        frames += 1
    return Mp3(max(frames, 0), stated, frame_s, cut)


def has_all_bytes(data: bytes) -> bool:
    """Whether the header states a number of bytes and the file has them: whole then, without walking its frames."""
    at = _after_id3(data)
    mark = max(data.find(mark, at, at + 64) for mark in (b"Xing", b"Info"))
    if mark < 0 or len(data) < mark + 16 or data[mark + 7] & 3 != 3:  # bit 0: frames are stated, bit 1: bytes
        return False
    return len(data) - at >= int.from_bytes(data[mark + 12 : mark + 16], "big") > 0


def _after_id3(data: bytes) -> int:
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9]
    return 10 + size + (10 if data[5] & 0x10 else 0)


def _stated_frames(frame: bytes) -> int | None:
    for mark in (b"Xing", b"Info"):
        at = frame.find(mark)
        if at >= 0 and len(frame) >= at + 12 and frame[at + 7] & 1:
            return int.from_bytes(frame[at + 8 : at + 12], "big")
    return None
