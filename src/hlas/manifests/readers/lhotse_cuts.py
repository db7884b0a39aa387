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

from hlas.manifests.readers.reading import Entry, ReadCorpus, audio_file, bad_entry, frame_of, lines, table_files

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
        except Exception as error:  # lhotse checks nothing: whatever a wrong key or type leads to
            yield bad_entry(line.number, f"not a cut: {type(error).__name__}: {error}")
            continue
        if isinstance(cut, MonoCut):
            yield _entry(line.number, cut, path.parent)
        else:
            yield bad_entry(line.number, f"a {type(cut).__name__}, not a cut of one channel", getattr(cut, "id", ""))


def _entry(number: int, cut: "MonoCut", folder: Path) -> Entry:
    """The row of a cut: the part of its recording that the cut spans."""
    if problem := _problem(cut):
        return bad_entry(number, problem, cut.id)
    (supervision,), recording = cut.supervisions, cut.recording
    (source,) = recording.sources
    whole = cut.start == 0 and abs(cut.duration - recording.duration) <= WHOLE_TOLERANCE_S
    custom: dict[str, Any] = supervision.custom or {}
    known = {name: str(custom[name]) for name in ("age", "accents", "variant", "domain") if custom.get(name)}
    return Entry(
        number,
        cut.id,
        audio_file(source.source, folder, outside=True),
        supervision.text,
        supervision.speaker or "",
        supervision.gender or "",
        locale=supervision.language or "",
        duration_s=cut.duration,
        offset_s=None if whole else cut.start,
        **known,
    )


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
