"""The manifests stage: every row of a release is an utterance or a counted reject, and no split knows another."""

import json
import logging
import tarfile
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import soundfile

from hlas.errors import UserError
from hlas.manifests.audio.options import AudioOptions
from hlas.manifests.rows import audio_path, read_manifest
from hlas.manifests.screening import evenly
from hlas.manifests.stage import Overlap, Params
from hlas.manifests.text import Language
from hlas.params import build_params
from hlas.yamls import read_yaml

Line = tuple[str, str, str]  # speaker, path, sentence
Build = Callable[..., Path]
Run = Callable[..., dict[str, Any]]
RELEASE: dict[str, list[Line]] = {
    "train": [("s1", "a.mp3", 'One "two'), ("s1", "b.mp3", "Three, four!"), ("s2", "c.mp3", "Five.")],
    "dev": [("s3", "d.mp3", "six")],
    "test": [("s4", "e.mp3", "seven eight"), ("s5", "f.mp3", "nine")],
}


def texts(out: Path, split: str) -> list[str]:
    return [row.text for row in read_manifest(out / f"{split}.jsonl")]


def rejects(out: Path) -> list[list[str]]:
    lines = (out / "rejects.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "split\tclip\treason\tdetail"
    return [line.split("\t") for line in lines[1:]]


def test_a_release_becomes_manifests(
    release: Build, make: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    summary = make(release(tmp_path / "cv", RELEASE), tmp_path / "out")
    assert texts(tmp_path / "out", "train") == ["one two", "three four", "five"]
    first = json.loads((tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first.pop("duration") == pytest.approx(1.0, abs=0.01)
    assert isinstance(first.pop("snr_db"), float)
    assert first == {
        "audio_filepath": "clips/a.wav",
        "text": "one two",
        "raw_text": 'One "two',
        "speaker": "s1",
        "age": "teens",
        "accents": "Budyšin",
        "locale": "xx",
        "sentence_id": "id-a.mp3",
        "up_votes": 2,
        "down_votes": 0,
        "source": "common_voice/train",
    }
    for split in RELEASE:
        for row in read_manifest(tmp_path / "out" / f"{split}.jsonl"):
            info = soundfile.info(audio_path(row, tmp_path / "out"))
            assert (info.samplerate, info.frames / 16000) == (16000, row.duration)
    assert summary["counts"] == {"train": 3, "dev": 1, "test": 2, "rejected": 0}
    assert summary["splits"]["train"] == {
        "in_release": 3,
        "read": 3,
        "kept": 3,
        "hours": pytest.approx(3 / 3600, rel=0.1),
        "speakers": 2,
        "rejected": {},
        "overlaps_kept": {},
    }
    assert "train: kept 3 of 3 (0.00 h, 2 speakers)" in caplog.messages


def test_every_row_is_kept_or_rejected_with_its_reason(
    release: Build, make: Run, mp3: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train = [
        ("s1", "good.mp3", "Good"),
        ("s1", "oe.mp3", "Köln"),
        ("s1", "digit.mp3", "In 1912"),
        ("s1", "percent.mp3", "half a %"),
        ("s1", "dots.mp3", "..."),
        ("s1", "words.mp3", "one two three four five six"),
        ("s1", "good.mp3", "again"),
        ("s1", "sub/good.mp3", "again"),
        ("s1", "../good.mp3", "again"),
        ("s1", "e.mp3", "clip of test"),
        ("s1", "gone.mp3", "gone"),
        ("s1", "empty.mp3", "empty"),
        ("s1", "text.mp3", "undecodable"),
        ("s1", "cut.mp3", "truncated"),
        ("s1", "short.mp3", "hm"),
        ("s1", "long.mp3", "a rather long clip"),
        ("s1", "slow.mp3", "a"),
        ("s1", "fast.mp3", "this is far too much to say in a second"),
    ]
    source = release(tmp_path / "cv", {**RELEASE, "train": train}, missing=["gone.mp3"])
    with (source / "train.tsv").open("a", encoding="utf-8") as file:
        file.write("s1\ttorn row\n")
    clips = source / "clips"
    (clips / "empty.mp3").write_bytes(b"")
    (clips / "text.mp3").write_bytes(b"not found")
    (clips / "cut.mp3").write_bytes((clips / "cut.mp3").read_bytes()[:1200])
    mp3(clips / "short.mp3", 0.2)
    mp3(clips / "long.mp3", 3.0)
    limits = Params(max_duration_s=2.0, min_chars_per_s=1.5, max_chars_per_s=30.0, max_words=12)
    summary = make(source, tmp_path / "out", replace(limits, max_words=5))
    expected = {
        "oe.mp3": "foreign_letter",
        "digit.mp3": "digits",
        "percent.mp3": "symbol",
        "dots.mp3": "no_text",
        "words.mp3": "too_many_words",
        "good.mp3": "duplicate_clip",
        "sub/good.mp3": "duplicate_clip",
        "../good.mp3": "bad_path",
        "e.mp3": "duplicate_clip",
        "gone.mp3": "no_audio",
        "empty.mp3": "empty_audio",
        "text.mp3": "undecodable",
        "cut.mp3": "truncated",
        "short.mp3": "too_short",
        "long.mp3": "too_long",
        "slow.mp3": "too_slow",
        "fast.mp3": "too_many_words",
        "line 20": "bad_row",
    }
    assert [(split, clip, reason) for split, clip, reason, _ in rejects(tmp_path / "out")] == [
        ("train", clip, reason) for clip, reason in expected.items()
    ]
    assert texts(tmp_path / "out", "train") == ["good"]
    account = summary["splits"]["train"]
    assert account["kept"] + sum(account["rejected"].values()) == account["read"] == 19
    assert account["rejected"]["duplicate_clip"] == 3
    assert next(m for m in caplog.messages if m.startswith("train:")).startswith(
        "train: kept 1 of 19 (0.00 h, 1 speakers): duplicate_clip 3, too_many_words 2, "
    )
    names = {path.name for path in (tmp_path / "out" / "clips").iterdir()}
    assert names == {"good.wav", "d.wav", "e.wav", "f.wav"}
    make(source, tmp_path / "out2", limits)
    assert ["train", "fast.mp3", "too_fast"] in [line[:3] for line in rejects(tmp_path / "out2")]


OVERLAPPING: dict[str, list[Line]] = {
    "train": [
        ("s4", "t1.mp3", "speaker of test"),
        ("s3", "t2.mp3", "speaker of dev"),
        ("s1", "t3.mp3", "SEVEN, eight"),
        ("s1", "t4.mp3", "six!"),
        ("", "t5.mp3", "nobody knows who"),
        ("s1", "t6.mp3", "free"),
        ("s1", "t7.mp3", "Fünf"),
    ],
    "dev": [("s3", "d.mp3", "six"), ("s5", "d2.mp3", "speaker of test"), ("s6", "d3.mp3", "nine")],
    "test": [("s4", "e.mp3", "Seven eight."), ("s5", "f.mp3", "nine"), ("", "g.mp3", "fünf")],
}


def test_no_speaker_and_no_sentence_crosses_splits(release: Build, make: Run, tmp_path: Path) -> None:
    source = release(tmp_path / "cv", OVERLAPPING)
    summary = make(source, tmp_path / "out")
    assert texts(tmp_path / "out", "train") == ["nobody knows who", "free"]
    assert texts(tmp_path / "out", "dev") == ["six"]
    assert texts(tmp_path / "out", "test") == ["seven eight", "nine"]
    assert {line[1]: line[2] for line in rejects(tmp_path / "out")} == {
        "t1.mp3": "speaker_in_test",
        "t2.mp3": "speaker_in_dev",
        "t3.mp3": "sentence_in_test",
        "t4.mp3": "sentence_in_dev",
        "t7.mp3": "foreign_letter",
        "d2.mp3": "speaker_in_test",
        "d3.mp3": "sentence_in_test",
        "g.mp3": "foreign_letter",
    }
    assert summary["splits"]["train"]["overlaps_kept"] == {}


def test_overlaps_that_are_kept_are_counted(release: Build, make: Run, tmp_path: Path) -> None:
    source = release(tmp_path / "cv", OVERLAPPING)
    summary = make(source, tmp_path / "out", Params(overlap=Overlap(speakers="keep", sentences="keep")))
    assert summary["counts"] == {"train": 6, "dev": 3, "test": 2, "rejected": 2}
    assert summary["splits"]["train"]["overlaps_kept"] == {
        "speaker_in_test": 1,
        "speaker_in_dev": 1,
        "sentence_in_test": 1,
        "sentence_in_dev": 2,  # 'six', and 'speaker of test', which dev holds too
    }
    assert summary["splits"]["dev"]["overlaps_kept"] == {"speaker_in_test": 1, "sentence_in_test": 1}


def test_expand_leaves_out_what_dev_and_test_hold(release: Build, make: Run, tmp_path: Path) -> None:
    lines = [line for split in RELEASE.values() for line in split]
    validated = [*lines, ("s4", "g.mp3", "other words"), ("s9", "h.mp3", "new")]
    source = release(tmp_path / "cv", {**RELEASE, "validated": validated})
    keep_all = Params(expand=True, overlap=Overlap("keep", "keep"))
    assert make(source, tmp_path / "out", keep_all)["splits"]["train"]["rejected"] == {"duplicate_clip": 3}
    summary = make(source, tmp_path / "out2", Params(expand=True))
    assert texts(tmp_path / "out2", "train") == ["one two", "three four", "five", "new"]
    assert summary["splits"]["train"]["rejected"] == {"duplicate_clip": 3, "speaker_in_test": 1}


def test_limit_chooses_rows_spread_evenly_and_still_protects_all_of_test(
    release: Build, make: Run, tmp_path: Path
) -> None:
    train = [("s1", f"t{i}.mp3", word) for i, word in enumerate(["aa", "bb", "cc", "ten", "ee", "ff"])]
    test = [*RELEASE["test"], ("s4", "g.mp3", "Ten.")]
    summary = make(
        release(tmp_path / "cv", {**RELEASE, "train": train, "test": test}), tmp_path / "out", Params(limit=2)
    )
    assert texts(tmp_path / "out", "test") == ["seven eight", "nine"]
    assert texts(tmp_path / "out", "train") == ["aa"]
    account = summary["splits"]["train"]
    assert (account["in_release"], account["read"], account["rejected"]) == (6, 2, {"sentence_in_test": 1})


def test_evenly_is_even() -> None:
    rows = pl.DataFrame({"row": range(10)})
    assert evenly(rows, None).equals(rows) and evenly(rows, 10).equals(rows) and evenly(rows, 11).equals(rows)
    for limit in range(1, 10):
        chosen = evenly(rows, limit)["row"].to_list()
        steps = {b - a for a, b in pairwise(chosen)}
        assert len(chosen) == limit and max(steps, default=0) - min(steps, default=0) <= 1


def test_an_archive_gives_the_same_manifests_and_leaves_nothing_behind(
    release: Build, make: Run, tmp_path: Path
) -> None:
    source = release(tmp_path / "cv" / "xx", RELEASE)
    with tarfile.open(tmp_path / "cv.tar.gz", "w:gz") as tar:
        tar.add(source / "clips", "cv/xx/clips")
        for split in RELEASE:
            tar.add(source / f"{split}.tsv", f"cv/xx/{split}.tsv")
    make(tmp_path / "cv", tmp_path / "out")
    make(tmp_path / "cv.tar.gz", tmp_path / "out2")
    listing = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*"))
    assert listing == sorted(str(p.relative_to(tmp_path / "out2")) for p in (tmp_path / "out2").rglob("*"))
    for name in (n for n in listing if n != "clips"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "out2" / name).read_bytes()


def test_workers_change_nothing(release: Build, make: Run, tmp_path: Path) -> None:
    train = [("s1", f"t{i}.mp3", f"{'ab'[i % 2]}{chr(97 + i % 26)}{chr(97 + i // 26)}") for i in range(40)]
    source = release(tmp_path / "cv", {"train": train}, missing=["t7.mp3", "t33.mp3"])
    one = make(source, tmp_path / "out")
    two = make(source, tmp_path / "out2", workers=2)
    assert one == two and one["splits"]["train"]["rejected"] == {"no_audio": 2}
    for path in sorted((tmp_path / "out").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "out2" / path.relative_to(tmp_path / "out")).read_bytes()


def test_a_killed_run_goes_on_where_it_was(release: Build, make: Run, tmp_path: Path) -> None:
    source, out = release(tmp_path / "cv", RELEASE), tmp_path / "out"
    make(source, out)
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in (out / "clips").iterdir()}
    manifest = (out / "train.jsonl").read_bytes()
    (out / "train.jsonl").unlink()
    (out / "clips" / "a.wav").unlink()
    (out / "clips" / "b.wav").write_bytes(before["b.wav"][1][:-8])
    (out / "clips" / ".c.wav.1.part").write_bytes(b"half")
    make(source, out)
    after = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in (out / "clips").iterdir()}
    assert (out / "train.jsonl").read_bytes() == manifest
    assert {n for n in after if after[n][0] != before[n][0]} == {"a.wav", "b.wav"}
    assert {n: data for n, (_, data) in after.items()} == {n: data for n, (_, data) in before.items()}


def test_a_language_that_rejects_every_row_is_a_user_error(release: Build, make: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        make(release(tmp_path / "cv", RELEASE), tmp_path / "out", language=Language("yy", "test", tuple("абв")))
    assert "commonest reason is foreign_letter (2), e.g. e.mp3: eghinstv in: seven eight" in caught.value.problem
    assert not list((tmp_path / "out").rglob("*"))


def test_a_release_without_its_clips_is_a_user_error(release: Build, make: Run, tmp_path: Path) -> None:
    source = release(tmp_path / "cv", RELEASE, missing=[path for lines in RELEASE.values() for _, path, _ in lines])
    with pytest.raises(UserError, match=r"commonest reason is no_audio \(2\)"):
        make(source, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.jsonl"))


def test_splits_that_a_release_lacks_are_not_written(release: Build, make: Run, tmp_path: Path) -> None:
    source = release(tmp_path / "cv", {"train": RELEASE["train"], "test": []})
    assert list(make(source, tmp_path / "out")["splits"]) == ["train"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"train.jsonl", "rejects.tsv", "audit.json", "clips"}
    with pytest.raises(UserError, match="every table is empty"):
        make(release(tmp_path / "cv2", {"dev": []}), tmp_path / "out2")


def test_flac_at_another_rate(release: Build, make: Run, tmp_path: Path) -> None:
    make(release(tmp_path / "cv", RELEASE), tmp_path / "out", Params(audio=AudioOptions("flac", 8000)))
    (row,) = read_manifest(tmp_path / "out" / "dev.jsonl")
    info = soundfile.info(audio_path(row, tmp_path / "out"))
    assert (row.audio_filepath, info.samplerate, info.format) == ("clips/d.flac", 8000, "FLAC")


def test_the_shipped_spec_states_the_defaults() -> None:
    errors: list[UserError] = []
    spec = read_yaml(Path(__file__).parents[1] / "manifests" / "common_voice.yaml")
    built = build_params(Params, "manifests", spec, (), {}, errors, "")
    assert not errors and built is not None and built[0] == Params()
    assert set(spec.data) == {field.name for field in fields(Params)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"min_duration_s": 9.0, "max_duration_s": 1.0},
        {"min_chars_per_s": 99.0},
    ],
)
def test_parameters_that_reject_everything_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"less than|above"):
        Params(**wrong)
