"""Stage `augment`: noise and room impulse responses, recorded or synthesised, as manifests for training and `noisy`.

Writes noise.jsonl with noise/, rooms.jsonl with rooms/ (16 kHz mono WAV; what there is none of is not written) and
rejects.tsv.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hlas.augment.options import BabbleOptions, ColouredOptions, RoomOptions
from hlas.errors import UserError
from hlas.files import atomic_text
from hlas.fingerprint import AUDIO
from hlas.manifests.rows import Row, write_rows
from hlas.parallel import map_chunks
from hlas.progress import track
from hlas.stage import Stage, Summary
from hlas.stages import KINDS

CHUNK = 2  # a clip of babble or a room takes about 0.1 s
MIN_PIECE_S = 1.0  # of a recording


@dataclass(frozen=True, slots=True)
class Params:
    """Parameters of the stage."""

    seed: int = 1
    sample_rate_hz: int = 16000
    clip_s: float = 30.0  # length of a noise clip: as long as the longest utterance, NeMo takes a part of it
    coloured: ColouredOptions = field(default_factory=ColouredOptions)
    babble: BabbleOptions = field(default_factory=BabbleOptions)
    simulated_rooms: RoomOptions = field(default_factory=RoomOptions)

    def __post_init__(self) -> None:
        """Refuse clips too short to mix with."""
        if self.clip_s < MIN_PIECE_S:
            raise ValueError(f"clip_s is less than {MIN_PIECE_S:g}")
        if self.sample_rate_hz < 8000:
            raise ValueError("sample_rate_hz is less than 8000")


class _Reject(NamedTuple):
    """A recording that gives nothing."""

    file: str  # below the folder it was found in
    reason: str
    detail: str


def run(params: Params, stage: Stage) -> Summary:
    """Make the sets of the spec and of the folders that the stage reads."""
    noise, noise_rejects = _recorded_noise(params, stage)
    noise += _synthesised_noise(params, stage)
    rooms, room_rejects = _recorded_rooms(params, stage)
    rooms += _synthesised_rooms(params, stage)
    if not noise and not rooms:
        raise UserError(stage.name, "neither noise nor rooms is asked for", "raise a count, or give a folder")
    rejects = {"noise": noise_rejects, "rooms": room_rejects}
    with atomic_text(stage.folder / "rejects.tsv") as file:
        file.write("set\tfile\treason\tdetail\n")
        file.writelines(
            "\t".join((name, *(" ".join(cell.split()) for cell in item))) + "\n"
            for name, items in rejects.items()
            for item in items
        )
    counts = {}
    for name, rows in (("noise", noise), ("rooms", rooms)):
        if rows:
            write_rows(stage.folder / KINDS["augment"].writes[name], rows)
        counts[name] = dict(Counter(row.source.partition("/")[2] for row in rows))
        shares = ", ".join(f"{kind} {count}" for kind, count in counts[name].items()) or "none"
        refused = ", ".join(f"{reason} {n}" for reason, n in Counter(r.reason for r in rejects[name]).items())
        stage.log.info("%s: %s%s", name, shares, f"; rejected {refused}" if refused else "")
    return {"counts": counts, "rejected": {name: len(items) for name, items in rejects.items()}}


def _folder(stage: Stage, name: str) -> Path:
    folder = stage.folder / name
    folder.mkdir(exist_ok=True)
    return folder


def _recordings(folder: Path, where: str) -> list[Path]:
    """The audio files below a folder, in a fixed order."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO)
    if not files:
        raise UserError(f"{where}: {folder}", "no audio file in it", f"files of {', '.join(AUDIO)} are read")
    return files


def _recorded_noise(params: Params, stage: Stage) -> tuple[list[Row], list[_Reject]]:
    """Recordings cut into clips; NeMo reads a whole one for each utterance, however little it takes of it."""
    from hlas.manifests.audio.converter import Converter, Job
    from hlas.manifests.audio.files import probe
    from hlas.manifests.audio.options import AudioOptions

    given = stage.optional("noise")
    if given is None:
        return [], []
    rejects: list[_Reject] = []
    jobs: list[Job] = []
    for file in _recordings(given.path, f"{stage.name}.noise"):
        name, found = str(file.relative_to(given.path)), probe(file)
        pieces = max(1, int(found.duration_s / params.clip_s + 1 - MIN_PIECE_S / params.clip_s))
        if found.reason:
            rejects.append(_Reject(name, found.reason, found.detail))
        elif found.duration_s < MIN_PIECE_S:
            rejects.append(_Reject(name, "too_short", f"{found.duration_s:.2f} s"))
        else:
            for piece in range(pieces):
                start_s = piece * params.clip_s
                piece_s = min(params.clip_s, found.duration_s - start_s)
                jobs.append(Job(name, f"recorded-{len(jobs):05d}", None, start_s, piece_s))
    options = AudioOptions(sample_rate_hz=params.sample_rate_hz)
    converter = Converter(given.path, _folder(stage, "noise"), options)
    results = map_chunks(converter, jobs, workers=stage.workers, chunk_size=CHUNK)
    rows = []
    for job, made in zip(jobs, track(results, "noise recordings", len(jobs), "clips"), strict=True):
        if made.reason:
            rejects.append(_Reject(job.file, made.reason, f"{made.detail} from {job.offset_s:g} s on"))
        else:
            rows.append(Row(made.path, made.duration_s, "", source="noise/recorded"))
    return rows, rejects


def _synthesised_noise(params: Params, stage: Stage) -> list[Row]:
    from hlas.augment.noise import NoiseJob, NoiseMaker

    speech = stage.optional("speech")
    jobs = [NoiseJob(colour, i) for colour in params.coloured.colours for i in range(params.coloured.clips)]
    if speech:
        jobs += [NoiseJob("babble", i) for i in range(params.babble.clips)]
    elif params.babble.clips:
        stage.log.info("%s: no babble, as no speech is given", stage.name)
    maker = NoiseMaker(
        _folder(stage, "noise"),
        params.seed,
        params.sample_rate_hz,
        params.clip_s,
        params.babble.talkers,
        speech.path if speech else None,
    )
    results = map_chunks(maker, jobs, workers=stage.workers, chunk_size=CHUNK)
    return list(track(results, "noise", len(jobs), "clips"))


def _recorded_rooms(params: Params, stage: Stage) -> tuple[list[Row], list[_Reject]]:
    from hlas.augment.rooms import RoomReader

    given = stage.optional("rooms")
    if given is None:
        return [], []
    files = list(enumerate(_recordings(given.path, f"{stage.name}.rooms")))
    reader = RoomReader(_folder(stage, "rooms"), params.sample_rate_hz)
    results = list(map_chunks(reader, files, workers=stage.workers, chunk_size=CHUNK))
    named = [(str(file.relative_to(given.path)), result) for (_, file), result in zip(files, results, strict=True)]
    rejects = [_Reject(name, result.reason, result.detail) for name, result in named if result.row is None]
    return [result.row for result in results if result.row], rejects


def _synthesised_rooms(params: Params, stage: Stage) -> list[Row]:
    from hlas.augment.rooms import RoomMaker

    maker = RoomMaker(_folder(stage, "rooms"), params.seed, params.sample_rate_hz, params.simulated_rooms)
    numbers: Sequence[int] = range(params.simulated_rooms.count)
    results = map_chunks(maker, numbers, workers=stage.workers, chunk_size=CHUNK)
    return list(track(results, "rooms", len(numbers), "rooms"))
