"""A lhotse CutSet (.jsonl or .jsonl.gz): each cut with one transcript becomes an utterance.

A file is the table 'train'; a folder may hold train, dev and test (cuts_train.jsonl.gz …). Only audio in files is read:
lhotse also knows audio that a shell command or a URL gives, which a data file must not be able to start. Relative paths
start from the CutSet's folder; others are allowed, as lhotse mostly writes absolute ones.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from hlas.manifests.readers.plain_list import checked_entry
from hlas.manifests.readers.reading import Entry, ReadCorpus, bad_entry, frame_of, lines, table_files

if TYPE_CHECKING:
    from lhotse import MonoCut

SUFFIXES = (".jsonl", ".jsonl.gz")
WHOLE_TOLERANCE_S = 0.001  # lhotse rounds times


def open_corpus(path: Path, scratch: Path) -> ReadCorpus:
    """Open a CutSet, or a folder with CutSets named train, dev, test; nothing is unpacked into `scratch`."""
    files = table_files(path, SUFFIXES, "lhotse CutSet")
    return ReadCorpus(str(path), path if path.is_dir() else path.parent, files, _read)


def _read(path: Path) -> pl.DataFrame:
    return frame_of(_entries(path))


def _entries(path: Path) -> Iterator[Entry]:
    """The cuts of a file, one at a time; what is no cut, or one of another kind, is a bad row."""
    from lhotse import MonoCut
    from lhotse.serialization import deserialize_item

    for line in lines(path):
        if line.bad:
            yield bad_entry(line.number, line.bad)
            continue
        try:
            cut = deserialize_item(json.loads(line.text))
            row = _entry(line.number, cut, path.parent) if isinstance(cut, MonoCut) else None
        except Exception as error:  # lhotse checks nothing: whatever a wrong key or type leads to
            yield bad_entry(line.number, f"not a cut: {type(error).__name__}: {error}")
            continue
        yield row or bad_entry(line.number, f"a {type(cut).__name__}, not a cut of one channel", _name(cut))


def _entry(number: int, cut: "MonoCut", folder: Path) -> Entry:
    """The row of a cut: the part of its recording that the cut spans."""
    if problem := _problem(cut):
        return bad_entry(number, problem, _name(cut))
    (supervision,), recording = cut.supervisions, cut.recording
    (source,) = recording.sources
    whole = cut.start == 0 and abs(cut.duration - recording.duration) <= WHOLE_TOLERANCE_S
    custom: dict[str, Any] = supervision.custom or {}
    values = {
        "file": source.source,
        "sentence": supervision.text,
        "speaker": supervision.speaker,
        "gender": supervision.gender,
        "locale": supervision.language,
        "duration_s": cut.duration,
        "offset_s": None if whole else cut.start,
    }
    known = {name: str(custom[name]) for name in ("age", "accents", "variant", "domain") if custom.get(name)}
    return checked_entry(number, values | known, folder)._replace(clip=_name(cut))


def _name(cut: Any) -> str:
    """What the cut is called; half a surrogate pair, which JSON can escape, is no character."""
    return str(getattr(cut, "id", "")).encode(errors="replace").decode()


def _problem(cut: "MonoCut") -> str:
    """Why a cut gives no utterance, '' if it does."""
    recording, supervisions = cut.recording, cut.supervisions
    if recording is None:
        return "no recording: features alone are no audio"
    if len(supervisions) != 1:
        return f"{len(supervisions)} supervisions, not one; lhotse's trim_to_supervisions() makes a cut of each"
    if len(recording.sources) != 1 or recording.sources[0].type != "file":
        kinds = ", ".join(source.type for source in recording.sources) or "none"
        return f"audio that is no file: {kinds}"
    if recording.num_channels != 1:
        return f"channel {cut.channel} of {recording.num_channels}"
    if recording.transforms:
        return "audio that lhotse changes on the way (transforms): save the changed audio first"
    if not isinstance(supervisions[0].text, str):
        return "no transcript"
    return ""
