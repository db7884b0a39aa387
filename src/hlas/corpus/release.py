"""Writes a spoken corpus as a Common Voice release folder: clips/*.mp3, the split tables, clip_durations.tsv.

The layout and the columns are those of release 21. Some rows are damaged on purpose, as rows of
real releases are.
"""

import hashlib
import io
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from hlas.corpus.speech import ACCENTS, SAMPLE_RATE_HZ, Recording, Speaker, record, speak, write_voices
from hlas.corpus.voices import find_voice
from hlas.files import atomic_text
from hlas.parallel import map_chunks
from hlas.progress import track

TABLES = ("train", "dev", "test", "validated", "invalidated", "other")
REPORTED_COLUMNS = ("sentence_id", "sentence", "locale", "reason")

Damage = Literal["", "empty_file", "truncated", "missing"]


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip to be made, and its row."""

    number: int  # in the file name
    tables: tuple[str, ...]  # where its row stands
    speaker: Speaker
    age: str
    spoken: str
    sentence: str  # as the tables have it: differs from `spoken` where the row is damaged
    recording: Recording
    up_votes: int = 2
    down_votes: int = 0
    damage: Damage = ""  # of the audio file

    @property
    def locale(self) -> str:
        """The language spoken, as Common Voice names it."""
        return find_voice(self.speaker.accent).language

    @property
    def path(self) -> str:
        """File name in clips/."""
        return f"common_voice_{self.locale}_{self.number}.mp3"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a split table; the fields are the columns, in their order."""

    client_id: str
    path: str
    sentence_id: str
    sentence: str
    sentence_domain: str
    up_votes: int
    down_votes: int
    age: str
    gender: str
    accents: str
    variant: str
    locale: str
    segment: str


COLUMNS = tuple(field.name for field in fields(Entry))


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one clip."""

    duration_ms: int  # of the whole recording, also where the file is damaged
    file_bytes: int


@dataclass(frozen=True, slots=True)
class ClipMaker:
    """Speaks, records and encodes clips; runs in a worker process."""

    voices: str  # folder that `write_voices` made
    clips: str  # folder of the mp3 files

    def __call__(self, chunk: Sequence[Clip]) -> list[Made]:
        """Write the files of the chunk's clips."""
        return [self._make(clip) for clip in chunk]

    def _make(self, clip: Clip) -> Made:
        samples = record(speak(Path(self.voices), clip.speaker, clip.spoken), clip.recording)
        data = damaged(encode_mp3(samples), clip.damage)
        if data is not None:
            path = Path(self.clips, clip.path)
            part = path.with_suffix(".part")
            part.write_bytes(data)
            part.replace(path)
        return Made(round(1000 * samples.size / SAMPLE_RATE_HZ), 0 if data is None else len(data))


def encode_mp3(samples: object) -> bytes:
    """The samples as an mp3 file, mono, SAMPLE_RATE_HZ, variable bit rate; the same samples give the same bytes."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE_HZ, format="MP3")
    return buffer.getvalue()


def damaged(data: bytes, damage: Damage) -> bytes | None:
    """The bytes that reach the disk; None where there is to be no file."""
    if damage == "missing":
        return None
    return {"": data, "empty_file": b"", "truncated": data[: len(data) // 3]}[damage]


def entry(clip: Clip) -> Entry:
    """The clip's row."""
    return Entry(
        client_id=hashlib.sha512(f"hlas demo speaker {clip.speaker.name}".encode()).hexdigest(),
        path=clip.path,
        sentence_id=hashlib.sha256(clip.spoken.encode()).hexdigest(),
        sentence=clip.sentence,
        sentence_domain="",
        up_votes=clip.up_votes,
        down_votes=clip.down_votes,
        age=clip.age,
        gender={"male": "male_masculine", "female": "female_feminine"}[clip.speaker.gender],
        accents=ACCENTS.get(clip.speaker.accent, ""),
        variant="",
        locale=clip.locale,
        segment="",
    )


def write_release(folder: Path, clips: Sequence[Clip], workers: int) -> list[Made]:
    """Write the release into `folder` (the locale folder of a Common Voice archive); one result a clip."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    speakers = tuple({clip.speaker.name: clip.speaker for clip in clips}.values())
    with tempfile.TemporaryDirectory(prefix="hlas-") as voices:
        write_voices(Path(voices), speakers)
        maker = ClipMaker(voices, str(folder / "clips"))
        made = list(track(map_chunks(maker, clips, workers=workers), "speaking", len(clips), "clips"))
    for table in TABLES:
        rows = (entry(clip) for clip in clips if table in clip.tables)
        _write_tsv(folder / f"{table}.tsv", COLUMNS, ([str(getattr(row, c)) for c in COLUMNS] for row in rows))
    durations = ([clip.path, str(result.duration_ms)] for clip, result in zip(clips, made, strict=True))
    _write_tsv(folder / "clip_durations.tsv", ("clip", "duration[ms]"), durations)
    reported = [c for c in clips if c.down_votes > c.up_votes]
    reports = ([entry(c).sentence_id, c.sentence, c.locale, "grammar-or-spelling"] for c in reported)
    _write_tsv(folder / "reported.tsv", REPORTED_COLUMNS, reports)
    return made


def _write_tsv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    # no quoting, as Common Voice writes its tables: a lone quotation mark stands there as it is
    with atomic_text(path) as file:
        for row in (header, *rows):
            file.write("\t".join(row) + "\n")
