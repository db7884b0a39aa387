"""Impulse responses of rooms: shoe boxes by the image-source method, or recordings brought into one form.

Each synthesised room depends on the seed and its number alone, so that any number of workers writes the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hlas.augment.options import RoomOptions
from hlas.errors import UserError
from hlas.manifests.audio.files import (
    DECODE_ERRORS,
    Samples,
    decode,
    to_mono,
    to_pcm,
    why,
    write_audio,
)
from hlas.manifests.rows import Row

_PEAK = 0.9  # of every response, full scale = 1: a mix sets its own level
_WALL_M = 0.4  # between a wall and who speaks or listens
_MAX_ORDER = 80  # reflections of one path: the time they take grows with its cube, 0.1 s here
_TRIES = 100


class Response(NamedTuple):
    """What became of a recorded response."""

    row: Row | None  # None where there is a reason
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RoomMaker:
    """Synthesises rooms by their numbers; a function for `map_chunks`."""

    target: Path  # folder to write to, beside the manifest
    seed: int
    sample_rate_hz: int
    options: RoomOptions

    def __call__(self, numbers: Sequence[int]) -> list[Row]:
        """The manifest row of each room; its response is written."""
        return [self._make(number) for number in numbers]

    def _make(self, number: int) -> Row:
        rng = np.random.default_rng([self.seed, number])
        samples = room_response(self.options, self.sample_rate_hz, rng)
        return _write(self.target / f"room-{number:04d}.wav", samples, self.sample_rate_hz, "rooms/image_source")


@dataclass(frozen=True, slots=True)
class RoomReader:
    """Brings recorded responses into the form of a set; a function for `map_chunks`."""

    target: Path
    sample_rate_hz: int

    def __call__(self, files: Sequence[tuple[int, Path]]) -> list[Response]:
        """A row or a reason for each numbered file."""
        return [self._read(number, file) for number, file in files]

    def _read(self, number: int, file: Path) -> Response:
        try:
            samples, rate = decode(file, b"", None)
        except DECODE_ERRORS as error:
            return Response(None, "undecodable", why(error))
        # one microphone of an array: the mean of several cancels what reaches them at different times
        first = samples[:, :1]
        mono = to_mono(first, rate, self.sample_rate_hz) if np.isfinite(first).all() else first[:0, 0]
        if not mono.any():
            return Response(None, "silent" if len(samples) else "empty_audio", "no response in it")
        name = f"recorded-{number:04d}.wav"
        return Response(_write(self.target / name, mono, self.sample_rate_hz, "rooms/recorded"))


def room_response(options: RoomOptions, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """Impulse response of a room drawn from the options, (samples,), by the image-source method (Allen, Berkley 1979).

    The walls absorb evenly what Sabine's formula gives for the RT60 drawn.
    """
    import pyroomacoustics as pra

    pra.constants.set("num_threads", 1)  # threads add the reflections up in another order, with other last bits
    for _ in range(_TRIES):
        size_m = rng.uniform(options.min_size_m, options.max_size_m)
        rt60_s = rng.uniform(*options.rt60_s)
        places = _places(size_m, options.distance_m, rng)
        try:
            absorption, order = pra.inverse_sabine(rt60_s, size_m)
        except ValueError:  # no wall absorbs that much: too short for so large a room
            continue
        if places is None:
            continue
        mouth, microphone = places
        room = pra.ShoeBox(
            size_m, fs=sample_rate_hz, materials=pra.Material(absorption), max_order=min(order, _MAX_ORDER)
        )
        room.add_source(mouth)
        room.add_microphone(microphone)
        room.compute_rir()
        return np.asarray(room.rir[0][0], dtype=np.float32)
    problem = f"no room fits its ranges in {_TRIES} draws"
    raise UserError("augment.simulated_rooms", problem, "raise rt60_s, or lower max_size_m or distance_m")


def _places(
    size_m: npt.NDArray[np.float64], distance_m: tuple[float, float], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Where the mouth and the microphone are, away from the walls; None where the direction drawn leaves the room."""
    mouth = rng.uniform(_WALL_M, size_m - _WALL_M)
    direction = rng.standard_normal(3)
    microphone = mouth + direction / np.linalg.norm(direction) * rng.uniform(*distance_m)
    inside = (microphone >= _WALL_M).all() and (microphone <= size_m - _WALL_M).all()
    return (mouth, microphone) if inside else None


def _write(path: Path, samples: Samples, sample_rate_hz: int, source: str) -> Row:
    write_audio(path, to_pcm(samples * np.float32(_PEAK / np.abs(samples).max())), sample_rate_hz)
    return Row(f"{path.parent.name}/{path.name}", len(samples) / sample_rate_hz, "", source=source)
