"""A Common Voice release: its tables, whatever the version, and its clips, from a folder or a .tar.gz.

Columns are found by name, as they moved between versions; what a version lacks is ''. The tables are written unquoted:
a line is a row, and a lone `"` is a character.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from hlas.errors import UserError
from hlas.manifests.release_archive import unpack_clips, unpack_tables
from hlas.progress import track

DURATIONS = "clip_durations.tsv"
_COLUMNS = {  # field of Clip -> names of its column, the newest first
    "speaker": ("client_id",),
    "path": ("path",),
    "sentence": ("sentence",),
    "sentence_id": ("sentence_id",),
    "age": ("age",),
    "gender": ("gender",),
    "accents": ("accents", "accent"),
    "locale": ("locale",),
}


class Clip(NamedTuple):
    """One row of a table; '' where the release does not say."""

    line: int  # in the file, from 1
    speaker: str
    path: str  # of the clip, below clips/
    sentence: str
    sentence_id: str
    age: str
    gender: str
    accents: str
    locale: str


class BadRow(NamedTuple):
    """A line that is not a row of its table."""

    line: int
    detail: str


@dataclass(frozen=True, slots=True)
class Release:
    """Where a release's tables and clips are."""

    label: str  # as the user names it
    tables: Path  # folder of the .tsv files
    clips: Path  # folder of the audio; of an archive, filled by `fetch`
    archive: Path | None = None
    archive_folder: str = ""  # the locale's folder inside the archive

    def table(self, name: str) -> Path | None:
        """The table of that file name, if the release has it."""
        path = self.tables / name
        return path if path.is_file() else None

    def fetch(self, names: Collection[str]) -> None:
        """Unpack the named clips of an archive into `clips`."""
        assert self.archive is not None
        unpacked = unpack_clips(self.archive, self.archive_folder, self.clips, names)
        for _ in track(unpacked, "unpack", len(names), "clips"):
            pass


def open_release(path: Path, scratch: Path, splits: Collection[str]) -> Release:
    """Open a release: a locale's folder, the folder above it, or a .tar.gz, unpacked as needed into `scratch`.

    `splits`: file names of the tables that make a folder a release; at least one must be there.
    """
    if path.is_file():
        folder = unpack_tables(path, scratch, {*splits, DURATIONS}, splits)
        return Release(str(path), scratch, scratch / "clips", path, folder)
    if not path.is_dir():
        raise UserError(str(path), "no such release", "give a release's folder or its .tar.gz")
    folder_path = _locale_folder(path, splits)
    if not (folder_path / "clips").is_dir():
        raise UserError(
            str(folder_path), "no folder clips/ beside the tables", "unpack the whole archive, or give the .tar.gz"
        )
    return Release(str(path), folder_path, folder_path / "clips")


def _locale_folder(path: Path, splits: Collection[str]) -> Path:
    def has_split(folder: Path) -> bool:
        return any((folder / name).is_file() for name in splits)

    if has_split(path):
        return path
    below = [child for child in sorted(path.iterdir()) if child.is_dir() and has_split(child)]
    if len(below) == 1:
        return below[0]
    names = ", ".join(splits)
    if below:
        found = ", ".join(child.name for child in below)
        raise UserError(str(path), f"several locales here: {found}", "give the folder of one of them")
    raise UserError(
        str(path), f"not a release: it has none of {names}", "give the folder with the tables; delta archives hold none"
    )


def read_table(path: Path) -> Iterator[Clip | BadRow]:
    """The rows of train.tsv, dev.tsv …, in order; none is lost: a line that does not fit is a BadRow.

    Raises:
        UserError: no header, no column `path` or `sentence`, or a line that is not UTF-8.

    """
    lines = _lines(path)
    header = _header(lines, path, ("path", "sentence"))
    width = len(header)
    places = [next((header.index(n) for n in names if n in header), width) for names in _COLUMNS.values()]
    repeated: dict[str, str] = {}  # speakers, accents …: one string each, not one a row
    share = repeated.setdefault
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) != width:
            yield BadRow(number, f"{len(cells)} columns, the header has {width}")
            continue
        cells.append("")  # what a column that is not there points to
        speaker, clip, sentence, sentence_id, age, gender, accents, locale = (cells[i] for i in places)
        yield Clip(
            number,
            share(speaker, speaker),
            clip,
            sentence,
            sentence_id,
            share(age, age),
            share(gender, gender),
            share(accents, accents),
            share(locale, locale),
        )


def read_durations(release: Release, wanted: Collection[str]) -> dict[str, float]:
    """Seconds of the wanted clips as the release states them; {} for releases before version 14."""
    path = release.table(DURATIONS)
    if path is None:
        return {}
    lines = _lines(path)
    header = _header(lines, path, ("clip", "duration[ms]"))
    clip, duration = header.index("clip"), header.index("duration[ms]")
    out: dict[str, float] = {}
    for _, line in lines:
        cells = line.split("\t")
        if len(cells) == len(header) and cells[clip] in wanted and cells[duration].isdecimal():
            out[cells[clip]] = int(cells[duration]) / 1000
    return out


def clip_file(path: str) -> str:
    """The file below clips/ that a table's `path` names, '' if it names none; the first releases left `.mp3` out."""
    parts = PurePosixPath(path).parts
    unsafe = not parts or path.startswith("/") or ".." in parts or "\\" in path or not path.isprintable()
    if unsafe or len(parts[-1].encode()) > 200:
        return ""
    return "/".join(parts) if PurePosixPath(path).suffix else "/".join(parts) + ".mp3"


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of every line that is not blank; only LF (or CR LF) ends a line."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{path}:{number}", f"not UTF-8: {error}", "save the table as UTF-8") from error
            line = line.rstrip("\r\n")
            if line:
                yield number, line


def _header(lines: Iterator[tuple[int, str]], path: Path, needed: tuple[str, ...]) -> list[str]:
    _, line = next(lines, (0, ""))
    header = [name.strip() for name in line.split("\t")]
    if missing := [name for name in needed if name not in header]:
        raise UserError(
            str(path),
            f"no column {', '.join(missing)}; the columns are: {', '.join(filter(None, header)) or 'none'}",
            "give a table of Common Voice, tabs between its columns",
        )
    return header
