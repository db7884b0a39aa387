"""Manifests over the corpus' own clips, and the durations that a corpus states against those that are heard."""

import logging
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from hlas.errors import UserError
from hlas.manifests.audio.options import AudioOptions
from hlas.manifests.audit import Options as AuditOptions
from hlas.manifests.rows import audio_path, read_manifest
from hlas.manifests.stage import Params

Build = Callable[..., Path]
Run = Callable[..., dict[str, Any]]
KEEP = Params(audio=AudioOptions("keep"))
TRUST = Params(audio=AudioOptions("keep", trust_durations=True), audit=AuditOptions(duplicate_audio=False))
TRAIN = [("s1", f"{name}.mp3", name * 2) for name in "abcdef"]


def stated(folder: Path, durations_ms: dict[str, int]) -> None:
    lines = ["clip\tduration[ms]", *(f"{clip}.mp3\t{ms}" for clip, ms in durations_ms.items()), ""]
    (folder / "clip_durations.tsv").write_text("\n".join(lines))


def pack(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, "cv/xx")
    return path


def test_clips_that_are_kept_are_measured_and_nothing_is_written(release: Build, make: Run, tmp_path: Path) -> None:
    source = release(tmp_path / "data" / "cv", {"train": TRAIN, "dev": [("s2", "g.mp3", "gg")]}, missing=["b.mp3"])
    (tmp_path / "runs").mkdir()
    summary = make(source, tmp_path / "runs" / "out", KEEP)
    assert summary["counts"] == {"train": 5, "dev": 1, "rejected": 1}
    for row in read_manifest(tmp_path / "runs" / "out" / "train.jsonl"):
        assert row.audio_filepath == str(source / "clips" / f"{row.utterance}.mp3")
        assert row.duration == soundfile.info(row.audio_filepath).duration
    assert not (tmp_path / "runs" / "out" / "clips").exists()


@pytest.mark.parametrize("params", [KEEP, TRUST])
def test_clips_of_an_archive_are_kept_beside_the_manifests(
    release: Build, make: Run, tmp_path: Path, params: Params
) -> None:
    source = release(tmp_path / "cv", {"train": TRAIN}, missing=["b.mp3"])
    stated(source, dict.fromkeys("abcdef", 1000))
    out = tmp_path / "out"
    for _ in range(2):  # the second time over what is there
        summary = make(pack(source, tmp_path / "cv.tar.gz"), out, params)
        assert summary["splits"]["train"]["rejected"] == {"no_audio": 1}
        rows = read_manifest(out / "train.jsonl")
        assert [row.audio_filepath for row in rows] == [f"clips/{name}.mp3" for name in "acdef"]
        assert {path.name for path in out.iterdir()} == {"train.jsonl", "rejects.tsv", "audit.json", "clips"}
    for row in rows:
        assert audio_path(row, out).read_bytes() == (source / "clips" / f"{row.utterance}.mp3").read_bytes()


def test_stated_durations_that_are_trusted_open_no_clip(
    release: Build, make: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = release(tmp_path / "cv", {"train": TRAIN}, missing=["b.mp3"])
    stated(source, {"a": 1010, "b": 1000, "c": 990, "d": 50, "e": 0})
    (source / "clips" / "c.mp3").write_bytes(b"no sound, and nobody notices")
    summary = make(source, tmp_path / "out", TRUST)
    found = {row.utterance: row.duration for row in read_manifest(tmp_path / "out" / "train.jsonl")}
    assert (found["a"], found["c"]) == (1.01, 0.99)
    assert found["e"] == found["f"] == soundfile.info(source / "clips" / "f.mp3").duration  # not stated: measured
    assert summary["splits"]["train"]["rejected"] == {"no_audio": 1, "too_short": 1}


def test_a_wrong_table_of_durations_is_warned_of(
    release: Build, make: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = release(tmp_path / "cv", {"train": TRAIN})
    stated(source, {"a": 1000, "b": 700, "c": 1000, "d": 400})
    summary = make(source, tmp_path / "out")
    assert summary["stated_durations"] == {"compared": 4, "differ": 2}
    (warning,) = (m for m in caplog.messages if "stated durations" in m)
    assert "2 of 4 clips differ by more than 0.25 s from their audio, most: d.mp3, 0.40 s stated, 1." in warning
    assert make(source, tmp_path / "kept", KEEP)["stated_durations"] == {"compared": 4, "differ": 2}
    assert make(source, tmp_path / "trusted", TRUST)["stated_durations"] == {"compared": 4, "differ": 2}
    stated(source, dict.fromkeys("abcd", 1000))
    caplog.clear()
    assert make(source, tmp_path / "right")["stated_durations"] == {"compared": 4, "differ": 0}
    assert not [m for m in caplog.messages if "stated durations" in m]


def test_a_sample_of_trusted_clips_is_opened(release: Build, make: Run, tmp_path: Path) -> None:
    source = release(tmp_path / "cv", {"train": TRAIN})
    stated(source, dict.fromkeys("abcdef", 1000))
    few = Params(audio=TRUST.audio, spot_check=2, audit=TRUST.audit)
    assert make(source, tmp_path / "out", few)["stated_durations"]["compared"] == 2
    for clip in (source / "clips").iterdir():
        clip.write_bytes(b"")
    with pytest.raises(UserError, match=r"none of 2 clips can be opened, e.g. a.mp3: no bytes"):
        make(source, tmp_path / "out2", few)
    none = Params(audio=TRUST.audio, spot_check=0, audit=TRUST.audit)
    assert make(source, tmp_path / "out3", none)["counts"]["train"] == 6


def test_the_audit_is_written_and_shown(
    release: Build, make: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    make(release(tmp_path / "cv", {"train": TRAIN, "test": [("s2", "g.mp3", "gg")]}), tmp_path / "out")
    assert '"utterances": 6' in (tmp_path / "out" / "audit.json").read_text(encoding="utf-8")
    assert any(m.startswith("audit: train: 6 utterances") for m in caplog.messages)
