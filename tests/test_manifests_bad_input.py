"""Whatever a release holds, the stage rejects and counts it, or says in one error what is wrong; nothing is lost."""

import os
import resource
import string
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hlas.errors import UserError
from hlas.manifests.audio.options import AudioOptions
from hlas.manifests.audit import Options as AuditOptions
from hlas.manifests.language.file import read_language
from hlas.manifests.rows import read_manifest
from hlas.manifests.stage import Params

Build = Callable[..., Path]
Run = Callable[..., dict[str, Any]]
SHARED = Path(os.environ.get("HLAS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
HSB = SHARED / "cv-hsb-mini" / "hsb"
LANGUAGES = Path(__file__).parents[1] / "manifests" / "languages"


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rejects(out: Path) -> list[list[str]]:
    return [line.split("\t") for line in (out / "rejects.tsv").read_text(encoding="utf-8").splitlines()[1:]]


@pytest.mark.parametrize("audio_format", ["wav", "keep"])
def test_bytes_that_no_release_has(release: Build, make: Run, tmp_path: Path, audio_format: Any) -> None:
    source = release(tmp_path / "cv", {"train": [("s1", "a.mp3", "aa"), ("s1", "b.mp3", "bb"), ("s1", "b", "twice")]})
    with (source / "train.tsv").open("ab") as file:
        line = "s1\tPATH\t\tTEXT\t\t\t\t\t\t\t\n"
        for path, text in (("dir.mp3", "a folder"), ("/etc/passwd", "x"), ("sub/../../a.mp3", "x"), ("link.mp3", "q")):
            file.write(line.replace("PATH", path).replace("TEXT", text).encode())
        file.write(line.replace("PATH", "n.mp3").replace("TEXT", "nu\0ll").encode())
        file.write(line.replace("PATH", "u.mp3").encode().replace(b"TEXT", b"\xff\xfe"))
        file.write(b"y" * 3_000_000 + b"\n")
        file.write(line.replace("PATH", "c.mp3").replace("TEXT", "z" * 2_000_000).encode())
    (source / "clips" / "dir.mp3").mkdir()
    (source / "clips" / "link.mp3").symlink_to("nowhere.mp3")
    params = Params(audio=AudioOptions(audio_format))
    summary = make(source, tmp_path / "out", params)
    assert [(clip, reason) for _, clip, reason, _ in rejects(tmp_path / "out")] == [
        ("b", "duplicate_clip"),
        ("dir.mp3", "no_audio"),
        ("/etc/passwd", "bad_path"),
        ("sub/../../a.mp3", "bad_path"),
        ("link.mp3", "no_audio"),
        ("line 9", "bad_row"),
        ("line 10", "bad_row"),
        ("line 11", "bad_row"),
        ("line 12", "bad_row"),
    ]
    account = summary["splits"]["train"]
    assert (account["read"], account["kept"], sum(account["rejected"].values())) == (11, 2, 9)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r"), max_size=6)
NAME = st.one_of(st.sampled_from(["a.mp3", "b", "sub/c.mp3", "../d.mp3", "", "/e.mp3", "f\0.mp3"]), CELL)
ROW = st.tuples(CELL, NAME, CELL).map(lambda row: "\t".join((*row[:2], "", row[2], *[""] * 7)).encode())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(ROW, st.binary(max_size=12).filter(lambda b: b"\n" not in b)), max_size=8))
def test_kept_and_rejected_are_all_rows(
    release: Build, make: Run, tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    source = release(folder / "cv", {"train": [("s1", "good.mp3", "good")]})
    with (source / "train.tsv").open("ab") as file:
        file.write(b"\n".join([*lines, b""]))
    summary = make(source, folder / "out", Params(audit=AuditOptions(duplicate_audio=False)))
    rows = 1 + sum(bool(line.rstrip(b"\r")) for line in lines)
    account = summary["splits"]["train"]
    assert account["kept"] + sum(account["rejected"].values()) == account["read"] == rows
    assert len(read_manifest(folder / "out" / "train.jsonl")) == account["kept"]
    assert len(rejects(folder / "out")) == rows - account["kept"]


@contextmanager
def small_disk(most_bytes: int) -> Iterator[None]:
    """No file can grow beyond this size: what a full disk does, for one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("most_bytes", [100, 3_000, 30_000, 34_000], ids=["tables", "clips", "wav", "manifest"])
def test_a_full_disk_is_one_error_and_the_next_run_goes_on(
    release: Build, make: Run, tmp_path: Path, most_bytes: int
) -> None:
    names = [a + b for a in string.ascii_lowercase[:6] for b in string.ascii_lowercase[:8]]
    source = release(tmp_path / "cv", {"train": [("s1" * 400, f"{name}.mp3", name) for name in names]})
    with tarfile.open(tmp_path / "cv.tar.gz", "w:gz") as tar:
        tar.add(source, "cv/xx")
    out = tmp_path / "out"
    with small_disk(most_bytes), pytest.raises(UserError, match="cannot be written"):
        make(tmp_path / "cv.tar.gz", out)
    assert not list(out.glob("*.jsonl")) and not list(out.rglob("*.part"))
    make(tmp_path / "cv.tar.gz", out)
    make(source, tmp_path / "whole")
    assert files(out) == files(tmp_path / "whole")


@pytest.mark.skipif(not HSB.is_dir(), reason="the Upper Sorbian clips are not on this machine")
def test_real_clips_give_the_same_from_folder_and_archive_with_one_process_and_two(make: Run, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "hsb.tar.gz", "w:gz", compresslevel=0) as tar:
        tar.add(HSB, "cv-corpus/hsb")
    language = read_language(LANGUAGES / "hsb.yaml")
    summaries = [
        make(source, tmp_path / name, Params(limit=120), language, workers)
        for name, source, workers in (("one", HSB, 1), ("two", HSB, 2), ("tar", tmp_path / "hsb.tar.gz", 2))
    ]
    assert summaries[0]["counts"] == {"train": 120, "dev": 120, "test": 120, "rejected": 0}
    assert summaries[0]["stated_durations"] == {"compared": 360, "differ": 0}
    assert summaries[0] == summaries[1] == summaries[2]
    first = files(tmp_path / "one")
    assert files(tmp_path / "two") == first and files(tmp_path / "tar") == first
