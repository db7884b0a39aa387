"""A release as a tar archive: its tables and the clips that are wanted, each unpacked once, nothing else.

The archive is read as a stream, in at most two passes. The first goes to the end: it writes the tables, and it finds
out whether the archive is whole (gzip, bzip2 and xz hold checksums) and of one locale. The second writes the clips.
Nothing is written outside the given folder, and an archive with hostile names is refused.
"""

import bz2
import gzip
import lzma
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from hlas.errors import UserError
from hlas.files import read_json, write_json

_BUFFER_BYTES = 1 << 20
_BROKEN = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


def unpack_tables(archive: Path, into: Path, is_table: Callable[[str], bool], is_mark: Callable[[str], bool]) -> str:
    """Write the tables that the archive has to `into`; returns the folder inside the archive that holds them.

    Both functions take a file's name: which files are tables, and which of them make their folder a release. What an
    earlier, killed run unpacked is used again.

    Raises:
        UserError: the archive is damaged or hostile, or holds no release or more than one.

    """
    marker = into / "unpacked.json"
    if marker.is_file():
        return str(read_json(marker)["folder"])
    found: dict[str, set[str]] = {}  # folder in the archive -> its tables; unpacked under the folder's number
    with _broken_is_a_user_error(archive):
        for path, content in _files(archive):
            if not is_table(path.name):
                continue
            names = found.setdefault(str(path.parent), set())
            if path.name in names:
                raise UserError(str(archive), f"holds {path} twice", "use the publisher's own archive")
            names.add(path.name)
            _write(content, into / str(list(found).index(str(path.parent))) / path.name)
    releases = sorted(folder for folder, names in found.items() if any(map(is_mark, names)))
    if len(releases) != 1:
        problem = f"expected the tables of one release; folders that have some: {', '.join(releases) or 'none'}"
        raise UserError(str(archive), problem, "give the archive of one locale")
    for table in (into / str(list(found).index(releases[0]))).iterdir():
        table.replace(into / table.name)
    write_json(marker, {"folder": releases[0]})
    return releases[0]


def unpack_clips(archive: Path, folder: str, into: Path, names: Iterable[str]) -> Iterator[str]:
    """Write the named files below `folder` to `into`, yielding each name; one not in the archive is left out.

    The archive is one that `unpack_tables` has found whole, so the pass ends with the last file that is wanted.
    """
    wanted = {str(PurePosixPath(folder) / name): name for name in names if not (into / name).is_file()}
    if not wanted:
        return
    with _broken_is_a_user_error(archive):
        for path, content in _files(archive):
            if name := wanted.pop(str(path), ""):
                _write(content, into / name)
                yield name
            if not wanted:
                return


def _files(archive: Path) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """The files of an archive in order, to its very end, where its checksums are."""
    with _unpacked(archive) as stream:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_BUFFER_BYTES) as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # else the headers of a million clips stay in memory
                if member.isdir():
                    continue
                path = _safe_path(archive, member)
                content = tar.extractfile(member)
                assert content is not None  # a regular file
                yield path, content
        while stream.read(_BUFFER_BYTES):
            pass


@contextmanager
def _broken_is_a_user_error(archive: Path) -> Iterator[None]:
    try:
        yield
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's; bz2 says without one what is damaged
            raise
        raise UserError(str(archive), f"not a whole tar archive: {error}", "copy or download it again") from error


def _unpacked(archive: Path) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile | BinaryIO:
    """The tar stream; the packers check what they unpack."""
    with archive.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(archive)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(archive)
    return lzma.LZMAFile(archive) if start == b"\xfd7zXZ\0" else archive.open("rb")


def _safe_path(archive: Path, member: tarfile.TarInfo) -> PurePosixPath:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not member.isfile():
        kind = "path" if member.isfile() else "link or device"
        problem = f"holds a {kind} that no release has: {member.name!r}"
        raise UserError(str(archive), problem, "use the publisher's own archive")
    return path


def _write(source: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("wb") as file:
            shutil.copyfileobj(source, file, _BUFFER_BYTES)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
