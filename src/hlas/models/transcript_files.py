"""Transcripts in the formats that people and tools read: txt, srt and vtt a recording, json and csv for all."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from hlas.files import atomic_text
from hlas.manifests.rows_csv import safe_cell
from hlas.models.subtitles import srt, vtt
from hlas.models.transcripts import Transcript

TOGETHER_STEM = "transcripts"  # name of the file that holds all recordings


@dataclass(frozen=True, slots=True)
class Named:
    """The transcript of a file."""

    file: str  # as the user named it
    transcript: Transcript


def as_json(items: Sequence[Named]) -> str:
    """A list of {"file", "duration", "language", "text", "doubts", "segments": [{"start", "end", "text"}]}.

    Times are in seconds; the doubts are names of `DOUBTS`, none for a CTC model.
    """
    data = [
        {
            "file": item.file,
            "duration": round(item.transcript.duration_s, 3),
            **({"language": item.transcript.language} if item.transcript.language else {}),
            "text": item.transcript.text,
            "doubts": list(item.transcript.doubts),
            "segments": [{"start": s.start_s, "end": s.end_s, "text": s.text} for s in item.transcript.segments],
        }
        for item in items
    ]
    return json.dumps(data, ensure_ascii=False, indent=1) + "\n"


def as_csv(items: Sequence[Named]) -> str:
    """One line a recording: file, duration (s), text, doubts with a space between."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "duration", "text", "doubts"))
    for item in items:
        heard = item.transcript
        cells = (item.file, round(heard.duration_s, 3), heard.text, " ".join(heard.doubts))
        writer.writerow(map(safe_cell, cells))
    return text.getvalue()


EACH: Mapping[str, Callable[[Transcript], str]] = {
    "txt": lambda transcript: transcript.text + "\n",
    "srt": lambda transcript: srt(transcript.segments),
    "vtt": lambda transcript: vtt(transcript.segments),
}
TOGETHER: Mapping[str, Callable[[Sequence[Named]], str]] = {"json": as_json, "csv": as_csv}
FORMATS = (*EACH, *TOGETHER)


def write_each(folder: Path, name: str, formats: Sequence[str], transcript: Transcript) -> None:
    """Write FOLDER/<name>.<format> for the formats of one recording a file."""
    for format_ in formats:
        if format_ in EACH:
            _write(folder / f"{name}.{format_}", EACH[format_](transcript))


def write_together(folder: Path, formats: Sequence[str], items: Sequence[Named]) -> None:
    """Write FOLDER/transcripts.<format> for the formats of one file for all."""
    for format_ in formats:
        if format_ in TOGETHER:
            _write(folder / f"{TOGETHER_STEM}.{format_}", TOGETHER[format_](items))


def _write(path: Path, text: str) -> None:
    with atomic_text(path) as file:
        file.write(text)


def output_names(files: Sequence[PurePath]) -> list[str]:
    """A name for each file's outputs, all different, also where case does not count: the stem if no other has it.

    Files of one stem get their path below the named folder (`speaker1/001`), then their suffix, then a number.
    """
    names = [file.stem for file in files]
    for longer in ([f.with_suffix("").as_posix() for f in files], [f.as_posix() for f in files]):
        count = Counter(name.casefold() for name in names)
        names = [name if count[name.casefold()] == 1 else more for name, more in zip(names, longer, strict=True)]
    taken: set[str] = set()
    out = []
    for name in names:
        unique, number = name, 2
        while unique.casefold() in taken:
            unique, number = f"{name}-{number}", number + 1
        taken.add(unique.casefold())
        out.append(unique)
    return out
