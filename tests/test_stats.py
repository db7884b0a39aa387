"""`hlas stats`: its numbers against ones counted by hand, its page, and the notebook in docs/."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hlas.errors import UserError
from hlas.files import write_json
from hlas.manifests.audit import Options, audit
from hlas.manifests.rows import read_manifest
from hlas.manifests.text import load_language
from hlas.paths import project_root
from hlas.stats.explore import Texts, explore, find_manifests
from hlas.stats.measure import BINS, LARGEST, GrowthPoint, SplitStats, measure

TRAIN = [
    {"text": "a bird sings", "duration": 2.0, "speaker": "s1", "gender": "female", "up_votes": 2, "snr_db": 20.0},
    {"text": "a bird sings a song", "duration": 4.0, "speaker": "s1", "gender": "female", "up_votes": 3},
    {"text": "rain", "duration": 1.0, "speaker": "s2", "gender": "male", "up_votes": 2},
    {"text": "a bird sings", "duration": 3.0},
]
TEST = [{"text": "a dog barks", "duration": 2.0, "speaker": "s3"}]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = (json.dumps({"audio_filepath": f"{i}.wav"} | row) for i, row in enumerate(rows))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    folder = tmp_path / "trial"
    folder.mkdir()
    write(folder / "train.jsonl", TRAIN)
    write(folder / "test.jsonl", TEST)
    return folder


def described(folder: Path) -> dict[str, SplitStats]:
    return {s.split: s for s in measure(find_manifests([folder]))}


def test_counts_by_hand(manifests: Path) -> None:
    train = described(manifests)["train"]
    assert (train.utterances, train.hours, train.speakers, train.utterances_without_speaker) == (4, 0.0028, 2, 1)
    assert (train.words, train.types, train.once, train.sentences) == (12, 5, 2, 3)
    assert train.largest_speaker == pytest.approx(6 / 10, abs=1e-3)
    assert train.duration_s.quantiles["median"] == 2.5
    assert train.duration_s.mean == 2.5
    assert train.chars_per_s.quantiles["min"] == 4.0  # 'rain' in one second; a space counts as a character
    assert train.snr_db is not None
    assert train.snr_db.mean == 20.0
    assert dict(train.characters)["i"] == 7
    assert " " not in dict(train.characters)
    assert train.growth[0] == GrowthPoint(1, 1)
    assert train.growth[-1] == GrowthPoint(12, 5)


def test_groups_by_hand(manifests: Path) -> None:
    train = described(manifests)["train"]
    by_gender = {g.value: (g.utterances, g.speakers) for g in train.groups["gender"]}
    assert by_gender == {"female": (2, 1), "": (1, 0), "male": (1, 1)}
    assert {g.value for g in train.groups["up_votes"]} == {"2", "3", ""}
    assert "accents" not in train.groups
    assert [s.value for s in train.speakers_by_hours] == ["s1", "s2"]


def test_unseen_words_are_counted_against_train(manifests: Path) -> None:
    test = described(manifests)["test"]
    assert (test.unseen_types, test.unseen_words) == (2, pytest.approx(2 / 3, abs=1e-5))
    assert described(manifests)["train"].unseen_words is None


def test_histograms_hold_every_utterance(tmp_path: Path) -> None:
    rows = [{"text": " ".join("x" * (1 + i % 7)), "duration": 1 + i * i / 100} for i in range(400)]
    stats = described(write(tmp_path / "train.jsonl", rows).parent)["train"]
    for spread in (stats.duration_s, stats.chars_per_s, stats.words_per_utterance):
        assert len(spread.edges) == len(spread.counts) + 1 <= BINS + 1
        assert sum(spread.counts) + spread.beyond == len(rows)
        assert all(math.isfinite(edge) for edge in spread.edges)
    assert stats.words_per_utterance.edges == (0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5)
    assert stats.words_per_utterance.counts == (58, 57, 57, 57, 57, 57, 57)


def test_many_values_are_counted_together(tmp_path: Path) -> None:
    rows = [{"text": "a", "duration": 1.0, "accents": f"accent {i:02}"} for i in range(LARGEST + 5)]
    groups = described(write(tmp_path / "train.jsonl", rows).parent)["train"].groups["accents"]
    assert len(groups) == LARGEST + 1
    assert (groups[-1].value, groups[-1].utterances) == ("5 others", 5)


def test_page_and_json(manifests: Path, tmp_path: Path) -> None:
    lines = explore([manifests], tmp_path / "out", "")
    assert lines[0].startswith("train: 4 utterances, 0.00 h, 2 speakers (the largest 60 %)")
    data = json.loads((tmp_path / "out" / "stats.json").read_text(encoding="utf-8"))
    assert data["splits"]["train"]["words"] == 12
    html = (tmp_path / "out" / "stats.html").read_text(encoding="utf-8")
    assert "trial" in html
    assert "://" not in html  # nothing is loaded from elsewhere


def test_text_on_the_page_is_text(tmp_path: Path) -> None:
    rows = [{"text": "<b>", "duration": 1.0, "speaker": "<script>alert(1)</script>", "gender": "<i>"}]
    explore([write(tmp_path / "train.jsonl", rows)], tmp_path / "out", "<title>")
    html = (tmp_path / "out" / "stats.html").read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "<i>" not in html


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "empty"),
        ("not json\n", "not a manifest"),
        ('{"audio_filepath": "a.wav", "text": "a"}\n', "no row has duration"),
        ('{"audio_filepath": "a.wav", "duration": 1.0}\n', "no row has text"),
    ],
)
def test_what_is_no_manifest_is_named(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "train.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=problem) as caught:
        measure({"train": tmp_path / "train.jsonl"})
    assert "train.jsonl" in caught.value.where


def test_folders_and_names(manifests: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write(other / "train.jsonl", TEST)
    assert list(find_manifests([manifests, other])) == ["trial/train", "test", "other/train"]
    for path, problem in ((tmp_path / "none", "no such"), (tmp_path, "none of")):
        with pytest.raises(UserError, match=problem):
            find_manifests([path])


def test_the_notebook_runs(
    manifests: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = json.loads((project_root() / "docs" / "explore_manifest.ipynb").read_text(encoding="utf-8"))
    monkeypatch.setenv("HLAS_MANIFEST", str(manifests / "train.jsonl"))
    names: dict[str, Any] = {}
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        exec(cell, names)  # the notebook's own code, as a kernel would run it
    assert names["speakers"]["utterances"].to_dict() == {"s1": 2, "s2": 1}
    assert "12 words, 5 different, 2 of them once" in capsys.readouterr().out


@pytest.mark.parametrize("row", [{"duration": -5.0, "text": "a"}, {"text": "a"}])
def test_rows_without_a_duration_are_no_silent_zeros(tmp_path: Path, row: dict[str, Any]) -> None:
    path = write(tmp_path / "train.jsonl", [*TRAIN, row, row])
    with pytest.raises(UserError, match=r"2 row\(s\) without a duration of at least 0 s, the first is row 5"):
        measure({"train": path})


@pytest.mark.parametrize("content", ["{torn", "[]"])
def test_an_audit_that_is_none_is_named(manifests: Path, tmp_path: Path, content: str) -> None:
    (manifests / "audit.json").write_text(content)
    with pytest.raises(UserError, match=r"audit\.json: not"):
        explore([manifests], tmp_path / "out", "")
    assert not (tmp_path / "out").exists()


def test_sentences_in_a_text_and_the_audit_are_shown(manifests: Path, tmp_path: Path) -> None:
    text = tmp_path / "lm.txt"
    text.write_text("A bird sings!\nA dog barks.\nSomething else\n", encoding="utf-8")
    found = audit(
        {name: read_manifest(manifests / f"{name}.jsonl") for name in ("train", "test")}, manifests, Options(False)
    )
    write_json(manifests / "audit.json", found.to_json())
    language = load_language(project_root() / "manifests" / "languages" / "en.yaml")
    lines = explore([manifests], tmp_path / "out", "", Texts((text,), language))
    assert "lm.txt: 1 sentences of train stand in it" in lines
    assert "lm.txt: 1 sentences of test stand in it" in lines
    html = (tmp_path / "out" / "stats.html").read_text(encoding="utf-8")
    assert "a dog barks" in html
    assert "train and test: sentences" in html
