"""Official, expanded and own splits: whole speakers, the fractions, the same ones every time; filters of rows."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlas.errors import UserError
from hlas.manifests.rows import Row, read_manifest
from hlas.manifests.splits import OwnSplits, assign
from hlas.manifests.stage import Overlap, Params
from hlas.manifests.transcripts import Tags

Build = Callable[..., Path]
Run = Callable[..., dict[str, Any]]
WORDS = [a + b + c for a in "abc" for b in "defg" for c in "hijkl"]
FREE = Overlap("keep", "keep")


def rows(out: Path, split: str) -> list[Row]:
    return read_manifest(out / f"{split}.jsonl")


def clips(out: Path, split: str) -> list[str]:
    return [row.utterance for row in rows(out, split)]


@given(st.dictionaries(st.text(max_size=4), st.integers(0, 1000), max_size=30), st.integers(0, 3))
def test_every_split_gets_whole_groups_within_its_fraction(weights: dict[str, int], seed: int) -> None:
    fractions = {"test": 0.2, "dev": 0.1}
    found = assign(weights, fractions, seed)
    if found is None:
        assert len(weights) < 3
        return
    assert set(found.values()) == {"test", "dev"} and len(found) < len(weights)
    total = sum(weights.values())
    for split, fraction in fractions.items():
        mine = [weights[name] for name, where in found.items() if where == split]
        assert sum(mine) <= fraction * total or len(mine) == 1
    shuffled = list(weights.items())
    random.Random(seed).shuffle(shuffled)
    assert assign(dict(shuffled), fractions, seed) == found


def test_many_equal_groups_fill_the_fractions() -> None:
    found = assign({str(i): 10 for i in range(100)}, {"test": 0.1, "dev": 0.2}, 1)
    assert found is not None
    assert sorted(found.values()) == ["dev"] * 20 + ["test"] * 10
    assert found != assign({str(i): 10 for i in range(100)}, {"test": 0.1, "dev": 0.2}, 2)


def test_own_splits_share_no_speaker_and_no_sentence(release: Build, make: Run, tmp_path: Path) -> None:
    lines = [(f"s{i % 12}", f"c{i}.mp3", WORDS[i % 40]) for i in range(48)]
    nobody = [("", "n1.mp3", "zz"), ("", "n2.mp3", "zy")]
    source = release(tmp_path / "cv", {"validated": lines[:30], "other": [*lines[30:], *nobody, lines[0]]})
    with (source / "other.tsv").open("a") as file:
        file.write("torn\n")
    own = Params(splits=OwnSplits(0.2, 0.2, tables=("validated", "other")))
    summary = make(source, tmp_path / "out", own)
    speakers = {split: {row.speaker for row in rows(tmp_path / "out", split)} for split in ("train", "dev", "test")}
    assert not speakers["train"] & speakers["dev"] and not (speakers["train"] | speakers["dev"]) & speakers["test"]
    read = {split: account["read"] for split, account in summary["splits"].items()}
    assert read == {"train": 35, "dev": 9, "test": 8} and sum(read.values()) == 52
    assert {"n1", "n2"} <= set(clips(tmp_path / "out", "train"))
    assert sum(summary["counts"].values()) == 52
    rejected = summary["splits"]["train"]["rejected"]
    assert rejected["bad_row"] == 1 and sum(a["rejected"].get("duplicate_clip", 0) for a in summary["splits"].values())
    texts = {split: {row.text for row in rows(tmp_path / "out", split)} for split in ("train", "dev", "test")}
    assert not texts["train"] & (texts["dev"] | texts["test"]) and not texts["dev"] & texts["test"]
    other_seed = make(source, tmp_path / "out2", Params(splits=OwnSplits(0.2, 0.2, 7, tables=("validated", "other"))))
    assert other_seed["counts"] != summary["counts"] or clips(tmp_path / "out2", "test") != clips(
        tmp_path / "out", "test"
    )


def test_own_splits_weigh_by_time_where_it_is_stated(release: Build, make: Run, tmp_path: Path) -> None:
    lines = [("long", "l.mp3", "aa"), *((f"s{i}", f"c{i}.mp3", WORDS[i]) for i in range(9))]
    source = release(tmp_path / "cv", {"validated": lines})
    durations = ["clip\tduration[ms]", "l.mp3\t1000", *(f"c{i}.mp3\t{1000 if i < 4 else 100}" for i in range(9))]
    (source / "clip_durations.tsv").write_text("\n".join(durations))
    counts = make(source, tmp_path / "out", Params(splits=OwnSplits(0, 0.1)))["counts"]
    assert counts == {"train": 5, "test": 5, "rejected": 0}  # 0.5 s of 5.5 s are the five short clips


def test_splits_by_sentence_are_for_one_voice(release: Build, make: Run, tmp_path: Path) -> None:
    lines = [("s1", f"c{i}.mp3", WORDS[i // 2]) for i in range(40)]
    source = release(tmp_path / "cv", {"validated": lines})
    with pytest.raises(UserError, match="1 different speakers are too few"):
        make(source, tmp_path / "out", Params(splits=OwnSplits()))
    own = OwnSplits(0.1, 0.1, by="sentence")
    make(source, tmp_path / "out", Params(splits=own, overlap=Overlap("keep", "reject")))
    assert {split: len(clips(tmp_path / "out", split)) for split in ("train", "dev", "test")} == {
        "train": 32,
        "dev": 4,
        "test": 4,
    }
    with pytest.raises(ValueError, match="share speakers"):
        Params(splits=own)


def test_a_delta_release_needs_splits_of_its_own(release: Build, make: Run, tmp_path: Path) -> None:
    lines = [(f"s{i}", f"c{i}.mp3", WORDS[i]) for i in range(10)]
    source = release(tmp_path / "cv", {"validated": lines[:6], "other": lines[6:], "invalidated": []})
    with pytest.raises(UserError, match="as in a delta release; it has: validated, other, invalidated") as caught:
        make(source, tmp_path / "out")
    assert "tables: [validated, other, invalidated]" in caught.value.fix
    both = Params(splits=OwnSplits(0.2, 0.2, tables=("validated", "other")))
    assert make(source, tmp_path / "out", both)["counts"] == {"train": 6, "dev": 2, "test": 2, "rejected": 0}
    assert sum(make(source, tmp_path / "out2", Params(splits=OwnSplits(0.2, 0.2)))["counts"].values()) == 6
    with pytest.raises(UserError, match="no table 'reported'"):
        make(source, tmp_path / "out", Params(splits=OwnSplits(tables=("reported",))))


def test_expand_needs_a_table_to_take_from(release: Build, make: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no table 'validated'"):
        make(release(tmp_path / "cv", {"train": [("s1", "a.mp3", "aa")]}), tmp_path / "out", Params(expand=True))


def test_expand_takes_each_row_once_and_loses_none(release: Build, make: Run, tmp_path: Path) -> None:
    train = [("s1", "a.mp3", "aa"), ("s1", "b.mp3", "bb")]
    validated = [train[1], ("s2", "c.mp3", "cc"), ("s2", "../c.mp3", "cc"), ("s2", "c.mp3", "cc again")]
    source = release(tmp_path / "cv", {"train": train, "validated": validated})
    with (source / "validated.tsv").open("a") as file:
        file.write("torn\n")
    account = make(source, tmp_path / "out", Params(expand=True))["splits"]["train"]
    assert clips(tmp_path / "out", "train") == ["a", "b", "c"]
    assert (account["read"], account["rejected"]) == (6, {"duplicate_clip": 1, "bad_path": 1, "bad_row": 1})


VOTED = {
    "train": [
        ("s1", "a.mp3", "aa", "2", "0"),
        ("s1", "b.mp3", "bb", "1", "0"),
        ("s1", "c.mp3", "cc", "5", "3"),
        ("s1", "d.mp3", "dd", "", ""),
    ],
    "test": [("s2", "e.mp3", "ee", "0", "9")],
}


def test_votes_choose_rows_of_train_only(release: Build, make: Run, tmp_path: Path) -> None:
    summary = make(release(tmp_path / "cv", VOTED), tmp_path / "out", Params(min_up_votes=2, max_down_votes=1))
    assert summary["splits"]["train"]["rejected"] == {"few_up_votes": 2, "many_down_votes": 1}
    assert (clips(tmp_path / "out", "train"), clips(tmp_path / "out", "test")) == (["a"], ["e"])
    assert "train\td.mp3\tfew_up_votes\tunknown" in (tmp_path / "out" / "rejects.tsv").read_text().splitlines()
    (row,) = rows(tmp_path / "out", "test")
    assert (row.up_votes, row.down_votes) == (0, 9)


def test_votes_choose_rows_of_all_own_splits(release: Build, make: Run, tmp_path: Path) -> None:
    lines = [(f"s{i}", f"c{i}.mp3", WORDS[i], str(i % 2)) for i in range(20)]
    own = Params(splits=OwnSplits(0.3, 0.3), min_up_votes=1)
    summary = make(release(tmp_path / "cv", {"validated": lines}), tmp_path / "out", own)
    assert summary["counts"]["rejected"] == 10
    assert {row.up_votes for split in ("train", "dev", "test") for row in rows(tmp_path / "out", split)} == {1}


def test_recordings_of_a_sentence_are_limited_in_train(release: Build, make: Run, tmp_path: Path) -> None:
    train = [(f"s{i}", f"c{i}.mp3", text) for i, text in enumerate(["Aa!", "aa", "ž aa", "AA?", "bb", "aa..."])]
    test = [("t1", "t1.mp3", "cc"), ("t2", "t2.mp3", "cc")]
    source = release(tmp_path / "cv", {"train": train, "test": test})
    summary = make(source, tmp_path / "out", Params(max_per_sentence=2))
    assert clips(tmp_path / "out", "train") == ["c0", "c1", "c4"]
    assert summary["splits"]["train"]["rejected"] == {"sentence_repeated": 2, "foreign_letter": 1}
    assert clips(tmp_path / "out", "test") == ["t1", "t2"]


@pytest.mark.parametrize(("policy", "kept"), [("keep", ["a", "b"]), ("drop", ["a"]), ("only", ["b"])])
def test_the_single_word_segment(release: Build, make: Run, tmp_path: Path, policy: Any, kept: list[str]) -> None:
    train = [("s1", "a.mp3", "aa"), ("s1", "b.mp3", "yes", "2", "0", "Singleword Benchmark")]
    summary = make(release(tmp_path / "cv", {"train": train}), tmp_path / "out", Params(segment=policy))
    assert clips(tmp_path / "out", "train") == kept
    assert summary["splits"]["train"]["rejected"] == ({} if policy == "keep" else {"segment": 1})


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        (Tags(), {"a": "yes noise well", "b": "so unclear it is", "c": "laugh um"}),
        (Tags(("noise",), ("unclear",), "reject"), {"a": "yes well"}),
        (Tags(("noise", "laugh"), (), "drop"), {"a": "yes well", "b": "so it is"}),
        (Tags(("noise", "laugh"), ("unclear",), "keep"), {"a": "yes well", "c": "um"}),
    ],
)
def test_tags_have_rules(release: Build, make: Run, tmp_path: Path, tags: Tags, kept: dict[str, str]) -> None:
    train = [
        ("s1", "a.mp3", "Yes [Noise] well"),
        ("s1", "b.mp3", "so [unclear] it is"),
        ("s1", "c.mp3", "[laugh] [um]"),
    ]
    make(release(tmp_path / "cv", {"train": train}), tmp_path / "out", Params(tags=tags, overlap=FREE))
    found = {row.utterance: row.text for row in rows(tmp_path / "out", "train")}
    assert found == kept
    assert rows(tmp_path / "out", "train")[0].raw_text == "Yes [Noise] well"


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"splits": OwnSplits(), "expand": True}, "expand is for official splits"),
        ({"max_per_sentence": 0}, "less than 1"),
        ({"reader": "comon_voice"}, "did you mean 'common_voice'"),
    ],
)
def test_what_contradicts_itself_is_refused(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Params(**wrong)
    for dev, test in ((0, 0), (0.5, 0.5), (-0.1, 0.2)):
        with pytest.raises(ValueError, match="fractions above 0"):
            OwnSplits(dev, test)
    with pytest.raises(ValueError, match="'a' is both dropped and rejected"):
        Tags(("a",), ("a",))


def test_official_splits_from_tables_of_other_names(make: Run, release: Build, tmp_path: Path) -> None:
    source = release(
        tmp_path / "release",
        {
            "train": [("s1", "a.mp3", "one")],
            "other": [("s2", "b.mp3", "two")],
            "test": [("s3", "c.mp3", "three")],
            "invalidated": [("s4", "d.mp3", "four")],
        },
    )
    named = {"train": ("train", "other"), "test": ("invalidated",)}
    assert make(source, tmp_path / "out", Params(tables=named))["counts"] == {"train": 2, "test": 1, "rejected": 0}
    assert [row.raw_text for row in read_manifest(tmp_path / "out" / "test.jsonl")] == ["four"]
    with pytest.raises(UserError, match="no table 'none'"):
        make(source, tmp_path / "none", Params(tables={"dev": ("none",)}))
    with pytest.raises(ValueError, match=r"tables\.tset"):
        Params(tables={"tset": ("hard",)})
