"""Where a release of Mozilla's lies: a locale's folder with tables and audio, the folder above it, or an archive."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hlas.errors import UserError
from hlas.manifests.readers.release_archive import unpack_clips, unpack_tables
from hlas.progress import track


@dataclass(frozen=True, slots=True)
class Layout:
    """What a release looks like."""

    name: str  # for messages
    marks: str  # pattern of the tables that make a folder a release
    extras: str  # pattern of the other files that are read
    audio: str  # name of the folder of clips beside the tables
    example: str  # the marks for people

    def is_mark(self, name: str) -> bool:
        """Whether a file of that name makes its folder a release."""
        return re.fullmatch(self.marks, name) is not None

    def is_table(self, name: str) -> bool:
        """Whether a file of that name is read."""
        return self.is_mark(name) or re.fullmatch(self.extras, name) is not None


@dataclass(frozen=True, slots=True)
class Release:
    """A release that was found."""

    label: str  # as the user names it
    tables: Path  # folder of the tables
    audio: Path  # folder of the clips; of an archive, filled by `fetch`
    archive: Path | None = None
    archive_folder: str = ""  # that of the clips, inside the archive

    def table(self, name: str) -> Path | None:
        """The table of that file name, if the release has it."""
        path = self.tables / name
        return path if path.is_file() else None

    def fetch(self, files: Collection[str]) -> None:
        """Unpack the named clips of an archive into `audio`; those of a folder lie there already."""
        if self.archive is None:
            return
        unpacked = unpack_clips(self.archive, self.archive_folder, self.audio, files)
        for _ in track(unpacked, "unpack", len(files), "clips"):
            pass


def find_release(path: Path, scratch: Path, layout: Layout) -> Release:
    """Find the release that the user means; the tables of an archive are unpacked into `scratch`.

    Raises:
        UserError: there is none, there are several, or its audio folder is missing.

    """
    if path.is_file():
        folder = unpack_tables(path, scratch, layout.is_table, layout.is_mark)
        inside = str(PurePosixPath(folder) / layout.audio)
        return Release(str(path), scratch, scratch / layout.audio, path, inside)
    if not path.is_dir():
        raise UserError(str(path), "no such release", "give a release's folder or its .tar.gz")
    found = _locale_folder(path, layout)
    if not (found / layout.audio).is_dir():
        problem = f"no folder {layout.audio}/ beside the tables"
        raise UserError(str(found), problem, "unpack the whole archive, or give the .tar.gz")
    return Release(str(path), found, found / layout.audio)


def _locale_folder(path: Path, layout: Layout) -> Path:
    def is_release(folder: Path) -> bool:
        return any(layout.is_mark(child.name) and child.is_file() for child in folder.iterdir())

    if is_release(path):
        return path
    below = [child for child in sorted(path.iterdir()) if child.is_dir() and is_release(child)]
    if len(below) == 1:
        return below[0]
    if below:
        found = ", ".join(child.name for child in below)
        raise UserError(str(path), f"several locales here: {found}", "give the folder of one of them")
    raise UserError(
        str(path), f"not a release of {layout.name}: it has none of {layout.example}", "give the folder with the tables"
    )
