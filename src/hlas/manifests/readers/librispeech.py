"""LibriSpeech as unpacked from OpenSLR: <part>/<speaker>/<chapter>/*.flac, and a *.trans.txt in every chapter.

Each part is a table of its own name (train-clean-360, dev-other …); 'train', 'dev' and 'test' are train-clean-100,
dev-clean and test-clean. SPEAKERS.TXT says who is female or male, where it is there.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import polars as pl

from hlas.errors import UserError
from hlas.manifests.readers.reading import Entry, ReadCorpus, audio_file, bad_entry, frame_of, lines

DEFAULTS = {"train": "train-clean-100", "dev": "dev-clean", "test": "test-clean"}
_TRANSCRIPTS = "*/*/*.trans.txt"
_GENDERS = {"F": "female", "M": "male"}


def open_corpus(path: Path, scratch: Path) -> ReadCorpus:
    """Open the folder of the parts, or the folder above it (with LibriSpeech/); nothing is unpacked into `scratch`."""
    if not path.is_dir():
        raise UserError(
            str(path), "no such folder", "unpack LibriSpeech's archives beside each other, give their folder"
        )
    folder = path / "LibriSpeech" if (path / "LibriSpeech").is_dir() else path
    parts = {part.name: part for part in sorted(folder.iterdir()) if any(part.glob(_TRANSCRIPTS))}
    if not parts:
        raise UserError(
            str(folder),
            "no part of LibriSpeech here: no folder with <speaker>/<chapter>/*.trans.txt",
            "give the folder that holds train-clean-100, dev-clean, …",
        )
    tables = {table: parts[part] for table, part in DEFAULTS.items() if part in parts} | parts
    genders = _genders(folder / "SPEAKERS.TXT")
    return ReadCorpus(str(path), folder, tables, partial(_read, genders), stems_are_names=True)


def _read(genders: dict[str, str], part: Path) -> pl.DataFrame:
    return frame_of(_entries(genders, part))


def _entries(genders: dict[str, str], part: Path) -> Iterator[Entry]:
    """The rows of a part: the lines of its transcripts, then the recordings that no transcript names."""
    number = 0
    for transcripts in sorted(part.glob(_TRANSCRIPTS)):
        chapter = transcripts.parent
        left = {flac.stem for flac in chapter.glob("*.flac")}
        for line in lines(transcripts):
            number += 1
            name, _, sentence = line.text.partition(" ")
            if line.bad or not name:
                yield bad_entry(number, line.bad or "a line without a name", f"{transcripts.name}:{line.number}")
                continue
            left.discard(name)
            speaker = chapter.parent.name
            path = "/".join((part.name, speaker, chapter.name, f"{name}.flac"))
            file = audio_file(path, part, outside=False) if "/" not in name else ""
            gender = genders.get(speaker, "")
            yield Entry(number, name, file, sentence, speaker, gender, locale="en")
        for name in sorted(left):
            number += 1
            yield bad_entry(number, f"no line in {transcripts.name}", name)


def _genders(path: Path) -> dict[str, str]:
    """Speaker -> gender of SPEAKERS.TXT (`id | sex | part | minutes | name`, comments after ;); {} without the file."""
    if not path.is_file():
        return {}
    rows = ([cell.strip() for cell in line.text.split("|")] for line in lines(path) if not line.text.startswith(";"))
    return {cells[0]: _GENDERS[cells[1]] for cells in rows if len(cells) >= 2 and cells[1] in _GENDERS}
