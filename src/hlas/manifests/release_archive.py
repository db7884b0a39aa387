"""A Common Voice release as a .tar.gz: its tables and the clips that are wanted, unpacked once, nothing else.

The archive is read as a stream, in at most two passes: tables first (a pass ends as soon as all are found), then the
clips they name. Nothing is written under a member's own name, and an archive with hostile names is refused.
"""

import shutil
import tarfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from hlas.errors import UserError
from hlas.files import read_json, write_json


def unpack_tables(archive: Path, into: Path, tables: Collection[str], splits: Collection[str]) -> str:
    """Write the tables that the archive has to `into`; returns the folder inside the archive that holds them.

    A folder counts as a release if it has one of `splits`. What an earlier, killed run unpacked is used again.
    """
    marker = into / "unpacked.json"
    if marker.is_file():
        return str(read_json(marker)["folder"])
    found: dict[str, set[str]] = {}  # folder in the archive -> its tables; unpacked under the folder's number
    with _opened(archive) as tar:
        for member, path in _files(archive, tar):
            if path.name in tables:
                folder = str(path.parent)
                found.setdefault(folder, set()).add(path.name)
                _write(tar, member, into / str(list(found).index(folder)) / path.name)
                if len(found[folder]) == len(tables):
                    break
    releases = [folder for folder, names in found.items() if names & set(splits)]
    if len(releases) != 1:
        listing = ", ".join(sorted(releases)) or "none"
        raise UserError(
            str(archive),
            f"expected one folder with any of {', '.join(splits)}; there: {listing}",
            "give the archive of one locale; delta archives hold no splits",
        )
    for table in (into / str(list(found).index(releases[0]))).iterdir():
        table.replace(into / table.name)
    write_json(marker, {"folder": releases[0]})
    return releases[0]


def unpack_clips(archive: Path, folder: str, into: Path, names: Iterable[str]) -> Iterator[str]:
    """Write the named clips of `folder`/clips to `into`, yielding each name; one not in the archive is left out."""
    clips = PurePosixPath(folder) / "clips"
    wanted = {str(clips / name): name for name in names if not (into / name).is_file()}
    if not wanted:
        return
    with _opened(archive) as tar:
        for member, path in _files(archive, tar):
            if name := wanted.pop(str(path), ""):
                _write(tar, member, into / name)
                yield name
            if not wanted:
                return


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive, "r|*") as tar:
            yield tar
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(str(archive), f"not a whole tar archive: {error}", "copy or download it again") from error


def _files(archive: Path, tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # else the headers of a million clips stay in memory
        if member.isdir():
            continue
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not member.isfile():
            kind = "path" if member.isfile() else "link or device"
            raise UserError(
                str(archive), f"holds a {kind} that no release has: {member.name!r}", "use Mozilla's own archive"
            )
        yield member, path


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    source = tar.extractfile(member)
    assert source is not None  # a regular file, see _files
    with part.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    part.replace(target)
