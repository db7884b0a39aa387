"""Clips a second to 16 kHz WAV against a sox process a clip, on one process and on two; durations probed a second.

Run: .venv/bin/python tools/bench/audio.py [--clips 300] [--rounds 3] [--folder CLIPS]

Needs sox with its MP3 format (Debian: sox, libsox-fmt-mp3). Without --folder the clips are made here: 3 to 7 s of
syllables at 32 kHz, as MP3. Rounds are interleaved and medians taken, so that other load on the machine hits all
systems alike; the ratio of processor time hardly feels it. Two processes pay their start (the imports of fresh
interpreters) once a stage, whatever the number of clips: it is measured on two clips, and the ratio is given with it
and without.
"""

import argparse
import itertools
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from hlas.manifests.audio.converter import Converter, Job
from hlas.manifests.audio.files import probe
from hlas.manifests.audio.options import AudioOptions
from hlas.parallel import map_chunks

CHUNK = 32  # clips a worker takes at a time, as in the stage
RATE = 32000
ONE, TWO, START, DURATIONS, SOX = (
    "hlas, 1 process",
    "hlas, 2 processes",
    "start of 2 processes",
    "durations",
    "sox, a process a clip",
)


def make_clips(folder: Path, count: int) -> list[Path]:
    """Write syllables of changing pitch in faint hiss, 3 to 7 s, at about 56 kbit/s (Common Voice has 48 to 64)."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    out = []
    for i in range(count):
        time_s = np.arange(int(rng.uniform(3, 7) * RATE)) / RATE
        pitch = 2 * np.pi * 120 * np.cumsum(1 + 0.2 * np.sin(5 * time_s)) / RATE
        voice = sum(np.sin(k * pitch) / k for k in range(1, 25)) * (np.sin(2 * np.pi * 2.5 * time_s) > -0.3)
        out.append(folder / f"{i:04d}.mp3")
        samples = 0.1 * voice + 0.001 * rng.standard_normal(len(time_s))
        soundfile.write(out[-1], samples, RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=0.9)
    return out


def sox_args(clip: Path, target: Path) -> list[str]:
    return ["sox", str(clip), "-r", "16000", "-c", "1", "-b", "16", str(target)]


def sox_problem(clip: Path, target: Path) -> str:
    """Why sox cannot be the peer, '' if it can."""
    if not shutil.which("sox"):
        return "sox is not installed: no peer"
    done = subprocess.run(sox_args(clip, target), capture_output=True, text=True)
    return f"sox cannot read MP3 (libsox-fmt-mp3 is missing?): {done.stderr.strip()}" if done.returncode else ""


@dataclass(frozen=True)
class Probing:
    """The durations of files; a function for `map_chunks`."""

    def __call__(self, files: Sequence[Path]) -> list[float]:
        """One duration a file, in seconds."""
        return [probe(file).duration_s for file in files]


@dataclass
class Bench:
    """The systems under test; each run starts from an empty folder."""

    scratch: Path
    clips: list[Path]

    def convert(self, workers: int, clips: Sequence[Path]) -> float:
        """Seconds for the clips with hlas."""
        target = self._empty()
        jobs = [Job(str(clip), clip.stem) for clip in clips]
        started = time.perf_counter()
        made = list(map_chunks(Converter(Path(), target, AudioOptions()), jobs, workers=workers, chunk_size=CHUNK))
        seconds = time.perf_counter() - started
        assert not any(result.reason for result in made)
        return seconds

    def start(self) -> float:
        """Seconds until two fresh processes have done next to nothing."""
        jobs = [Job(str(self.clips[0]), "a"), Job(str(self.clips[0]), "b")]
        target = self._empty()
        started = time.perf_counter()
        list(map_chunks(Converter(Path(), target, AudioOptions()), jobs, workers=2, chunk_size=1))
        return time.perf_counter() - started

    def sox(self) -> float:
        """Seconds for the clips with a sox process each."""
        target = self._empty()
        started = time.perf_counter()
        for clip in self.clips:
            subprocess.run(sox_args(clip, target / f"{clip.stem}.wav"), check=True, capture_output=True)
        return time.perf_counter() - started

    def probe(self) -> float:
        """Seconds for the durations of the clips on one process."""
        started = time.perf_counter()
        list(map_chunks(Probing(), self.clips, workers=1, chunk_size=CHUNK))
        return time.perf_counter() - started

    def _empty(self) -> Path:
        target = self.scratch / "out"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="a folder of .mp3 clips instead of those made here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        given = sorted(args.folder.glob("*.mp3")) if args.folder else make_clips(scratch / "clips", args.clips)
        clips = list(itertools.islice(given, args.clips))
        if not clips:
            sys.exit(f"{args.folder}: no .mp3 file")
        bench = Bench(scratch, clips)
        systems: dict[str, Callable[[], float]] = {
            ONE: lambda: bench.convert(1, clips),
            TWO: lambda: bench.convert(2, clips),
            START: bench.start,
            DURATIONS: bench.probe,
        }
        if problem := sox_problem(clips[0], scratch / "try.wav"):
            print(problem)
        else:
            systems[SOX] = bench.sox
        seconds: dict[str, list[float]] = {system: [] for system in systems}
        processor: dict[str, list[float]] = {system: [] for system in systems}
        for round_number in range(args.rounds + 1):
            for system, run in systems.items():
                before, took, after = processor_s(), run(), processor_s()
                if round_number:  # the first fills the caches
                    seconds[system].append(took)
                    processor[system].append(after - before)
        audio_s = sum(probe(clip).duration_s for clip in clips)
    wall = {system: statistics.median(values) for system, values in seconds.items()}
    busy = {system: statistics.median(values) for system, values in processor.items()}
    print(f"{len(clips)} clips of {audio_s / len(clips):.1f} s, median of {args.rounds} interleaved rounds: files/s")
    for system in systems:
        if system != START:
            print(f"  {system:22} {len(clips) / wall[system]:9.1f}")
    if SOX in systems:
        ratio, of_processor = wall[SOX] / wall[ONE], busy[SOX] / busy[ONE]
        print(f"1 process against sox: {ratio:.2f}x (bar: 4); of processor time {of_processor:.2f}x")
    after_start = wall[ONE] / max(wall[TWO] - wall[START], 1e-9)
    print(
        f"2 processes against 1: {after_start:.2f}x after their start (bar: 1.7), {wall[ONE] / wall[TWO]:.2f}x with it"
    )
    print(f"their start: {wall[START]:.2f} s")
    print(f"durations: {len(clips) / wall[DURATIONS]:.0f} files/s (bar: 10000)")


def processor_s() -> float:
    """Processor time of this process and of those it has started and waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


if __name__ == "__main__":
    main()
