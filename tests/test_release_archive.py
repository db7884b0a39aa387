"""Releases as tar archives: what a folder gives, nothing hostile, nothing damaged."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hlas.errors import UserError
from hlas.manifests.readers.common_voice import open_corpus

TRAIN = ("./cv/hsb/train.tsv", b"client_id\tpath\tsentence\ns1\ta.mp3\tHaj\n")
CLIP = ("./cv/hsb/clips/a.mp3", b"sound of a")
Member = tuple[str, bytes | tarfile.TarInfo]


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def tar(*members: Member) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                file.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archive(path: Path, *members: Member) -> Path:
    return save(path, gzip.compress(tar(*members)))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes])
@pytest.mark.parametrize("order", [1, -1], ids=["clips last", "clips first"])
def test_an_archive_gives_what_a_folder_gives(tmp_path: Path, pack: Callable[[bytes], bytes], order: int) -> None:
    reported = ("./cv/hsb/reported.tsv", b"nobody reads this")
    other = ("./cv/hsb/clips/b.mp3", b"nobody wants this")
    path = save(tmp_path / "cv.tar.gz", pack(tar(*[TRAIN, reported, other, CLIP][::order])))
    corpus = open_corpus(path, tmp_path / "scratch")
    assert corpus.read("train")["clip"].to_list() == ["a.mp3"]
    corpus.fetch(["a.mp3", "gone.mp3"])
    assert (corpus.audio / "a.mp3").read_bytes() == b"sound of a"
    there = {str(file.relative_to(tmp_path / "scratch")) for file in (tmp_path / "scratch").rglob("*.*")}
    assert there == {"train.tsv", "unpacked.json", "clips/a.mp3"}


def test_what_is_unpacked_is_not_unpacked_again(tmp_path: Path) -> None:
    path = archive(tmp_path / "cv.tar.gz", TRAIN, CLIP)
    open_corpus(path, tmp_path / "scratch").fetch(["a.mp3"])
    path.write_bytes(b"")  # whoever reads the archive again fails
    again = open_corpus(path, tmp_path / "scratch")
    again.fetch(["a.mp3"])
    assert (again.audio / "a.mp3").read_bytes() == b"sound of a"
    with pytest.raises(UserError, match="not a whole tar archive"):
        again.fetch(["a.mp3", "b.mp3"])


def test_tables_of_another_folder_do_not_mix_in(tmp_path: Path) -> None:
    stray = ("backup/clip_durations.tsv", b"clip\tduration[ms]\na.mp3\t1\n")
    durations = ("./cv/hsb/clip_durations.tsv", b"clip\tduration[ms]\na.mp3\t2000\n")
    corpus = open_corpus(archive(tmp_path / "cv.tar.gz", stray, durations, TRAIN), tmp_path / "scratch")
    assert corpus.read("train")["duration_s"].to_list() == [2.0]


def link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("cv/hsb/clips/a.mp3")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize("place", [0, 1], ids=["first", "last"])
@pytest.mark.parametrize(
    "member",
    [
        ("/cv/hsb/clips/a.mp3", b"x"),
        ("cv/../../a.mp3", b"x"),
        ("", link(tarfile.SYMTYPE)),
        ("", link(tarfile.LNKTYPE)),
        ("", link(tarfile.CHRTYPE)),
    ],
    ids=["absolute", "dots", "symlink", "hardlink", "device"],
)
def test_hostile_members_are_refused(tmp_path: Path, member: Member, place: int) -> None:
    members = [TRAIN]
    members.insert(place, member)  # type: ignore[arg-type]  # one of them has no bytes
    path = archive(tmp_path / "cv.tar.gz", *members)
    with pytest.raises(UserError, match="that no release has"):
        open_corpus(path, tmp_path / "in" / "scratch")
    assert not list(tmp_path.rglob("a.mp3"))
    with pytest.raises(UserError, match="that no release has"):  # and are so again: nothing passes for unpacked
        open_corpus(path, tmp_path / "in" / "scratch")


def test_a_table_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds cv/hsb/train.tsv twice"):
        open_corpus(archive(tmp_path / "cv.tar.gz", TRAIN, TRAIN), tmp_path / "scratch")


def noise(size: int) -> bytes:
    return bytes(i * i % 251 for i in range(size))


@pytest.mark.parametrize("cut", [1, 8, 400, 150_000])
def test_a_cut_archive_is_a_user_error(tmp_path: Path, cut: int) -> None:
    whole = gzip.compress(tar(TRAIN, ("cv/hsb/clips/a.mp3", noise(200_000))), compresslevel=0)
    with pytest.raises(UserError, match="not a whole tar archive"):
        open_corpus(save(tmp_path / "cv.tar.gz", whole[:-cut]), tmp_path / "scratch")


@pytest.mark.parametrize("place", [-6, -100_000], ids=["checksum", "clip"])
def test_a_damaged_archive_is_a_user_error_before_a_clip_is_read(tmp_path: Path, place: int) -> None:
    damaged = bytearray(gzip.compress(tar(TRAIN, ("cv/hsb/clips/a.mp3", noise(200_000))), compresslevel=0))
    damaged[place] ^= 1  # tar itself has no checksum over a file's bytes
    with pytest.raises(UserError, match=r"not a whole tar archive: CRC"):
        open_corpus(save(tmp_path / "cv.tar.gz", bytes(damaged)), tmp_path / "scratch")


def test_a_damaged_bzip2_archive_is_a_user_error(tmp_path: Path) -> None:
    damaged = bytearray(bz2.compress(tar(TRAIN, ("cv/hsb/clips/a.mp3", noise(200_000)))))
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(UserError, match="not a whole tar archive"):
        open_corpus(save(tmp_path / "cv.tar.bz2", bytes(damaged)), tmp_path / "scratch")


def test_what_is_no_archive_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a whole tar archive"):
        open_corpus(save(tmp_path / "notes.txt", b"not a tar"), tmp_path / "scratch")


def test_an_archive_of_several_locales_or_none(tmp_path: Path) -> None:
    two = archive(tmp_path / "two.tar.gz", TRAIN, CLIP, ("cv/de/dev.tsv", b"path\tsentence\n"))
    with pytest.raises(UserError, match="folders that have some: cv/de, cv/hsb"):
        open_corpus(two, tmp_path / "scratch")
    with pytest.raises(UserError, match="folders that have some: none"):
        open_corpus(archive(tmp_path / "none.tar.gz", CLIP), tmp_path / "scratch2")
