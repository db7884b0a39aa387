"""LJSpeech as unpacked: metadata.csv (name|transcript|transcript with the numbers read out) and wavs/.

One reader, one table 'train': the corpus has no splits of its own and one speaker, so splits are made by sentence and
may share the speaker. The transcript with the numbers read out is taken.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from hlas.errors import UserError
from hlas.manifests.readers.reading import Entry, ReadCorpus, audio_file, bad_entry, frame_of, lines

METADATA = "metadata.csv"
SPEAKER = "LJ"


def open_corpus(path: Path, scratch: Path) -> ReadCorpus:
    """Open the folder with metadata.csv, or the folder above it; nothing is unpacked into `scratch`."""
    if not path.is_dir():
        raise UserError(str(path), "no such folder", "unpack LJSpeech-1.1.tar.bz2 and give its folder")
    folders = [folder for folder in (path, *sorted(path.iterdir())) if (folder / METADATA).is_file()]
    if not folders:
        raise UserError(str(path), f"no {METADATA} here", "give the folder of LJSpeech, e.g. LJSpeech-1.1")
    folder = folders[0]
    if not (folder / "wavs").is_dir():
        raise UserError(str(folder), f"no folder wavs/ beside {METADATA}", "unpack the whole archive")
    return ReadCorpus(str(path), folder / "wavs", {"train": folder / METADATA}, _read, stems_are_names=True)


def _read(path: Path) -> pl.DataFrame:
    return frame_of(_entries(path))


def _entries(path: Path) -> Iterator[Entry]:
    """The rows of metadata.csv: no header, nothing quoted."""
    for line in lines(path):
        cells = line.text.split("|")
        if line.bad or len(cells) != 3:
            yield bad_entry(line.number, line.bad or f"{len(cells)} columns, LJSpeech has 3")
            continue
        name, written, spoken = cells
        file = audio_file(f"{name}.wav", path.parent, outside=False) if name else ""
        yield Entry(line.number, name, file, spoken or written, SPEAKER, "female", locale="en")
