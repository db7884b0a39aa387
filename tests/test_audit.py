"""The audit finds what splits share, what stands twice and who speaks most, and says the same however it is run."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from hlas.errors import UserError
from hlas.manifests import audit_audio
from hlas.manifests.audit import EXAMPLES, Options, audit, audit_text, facts_table
from hlas.manifests.rows import Row
from hlas.manifests.text import Language

LANGUAGE = Language("xx", "test", tuple("abcdefghijklmnopqrstuvwxyz"))
NO_AUDIO = Options(duplicate_audio=False)
NOWHERE = Path("/nowhere")
SHARED = Path(os.environ.get("HLAS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


def row(clip: str, text: str = "ab", speaker: str = "", seconds: float = 1.0) -> Row:
    return Row(f"clips/{clip}", seconds, text, speaker=speaker)


SPLITS = {
    "train": [row("a", "one", "s1", 6.0), row("b", "two", "s2", 3.0), row("c", "two", "s2", 3.0), row("d", "four")],
    "dev": [row("e", "two", "s3"), row("a", "five", "s3")],
    "test": [row("f", "six", "s1"), row("g", "seven", "s1", 0.5), row("h", "eight", "s9", 0.5)],
}


def test_what_splits_share() -> None:
    found = audit(SPLITS, NOWHERE, NO_AUDIO)
    assert {(s.kind, s.splits): (s.shared, s.rows, s.examples) for s in found.shared if s.shared} == {
        ("clips", ("train", "dev")): (1, (1, 1), ("clips/a",)),
        ("sentences", ("train", "dev")): (1, (2, 1), ("two",)),
        ("speakers", ("train", "test")): (1, (1, 2), ("s1",)),
    }
    assert len(found.shared) == 9
    assert "train and test share 1 speakers (1 and 2 rows), e.g. s1" in found.warnings
    assert "train and dev share 1 sentences" in found.lines


def test_unknown_speakers_are_shared_by_nobody() -> None:
    found = audit({"train": [row("a", "x")], "test": [row("b", "y")]}, NOWHERE, NO_AUDIO)
    assert not any(s.shared for s in found.shared) and not found.warnings
    assert found.lines[-1] == "train, test share no clip, no speaker and no sentence"
    facts = found.splits["train"]
    assert (facts.speakers, facts.unknown_speaker, facts.largest_share, facts.gini) == (0, 1, None, None)


def test_parts_of_one_file_are_different_clips() -> None:
    first, second = replace(row("a"), offset=0.0), replace(row("a", "cd"), offset=1.0)
    assert not any(s.shared for s in audit({"train": [first], "test": [second]}, NOWHERE, NO_AUDIO).shared)
    (clips, *_) = audit({"train": [first], "test": [first]}, NOWHERE, NO_AUDIO).shared
    assert (clips.kind, clips.shared) == ("clips", 1)


def test_speakers_are_weighed_by_their_time() -> None:
    facts = audit(SPLITS, NOWHERE, NO_AUDIO).splits["train"]
    assert (facts.utterances, facts.speakers, facts.unknown_speaker, facts.sentences) == (4, 2, 1, 3)
    assert (facts.largest_speaker, facts.largest_share, facts.effective_speakers, facts.gini) == ("s1", 0.5, 2.0, 0.0)
    assert facts.hours == pytest.approx(13 / 3600, abs=1e-4)
    test = audit(SPLITS, NOWHERE, NO_AUDIO).splits["test"]
    assert (test.largest_speaker, test.largest_share) == ("s1", 0.75)
    assert test.effective_speakers == pytest.approx(1 / (0.75**2 + 0.25**2), abs=0.05)


def test_a_dominant_speaker_is_warned_about_and_an_even_split_is_not() -> None:
    splits = {
        "train": [row("a", "x", "s1", 87.0), row("b", "y", "s2", 13.0)],
        "test": [row("c", "z", "s3"), row("d", "w", "s4")],
    }
    assert audit(splits, NOWHERE, NO_AUDIO).warnings == (
        "train: speaker s1 has 87.0% of the audio: a model mostly learns this voice",
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 50)), min_size=1, max_size=30))
def test_skew_is_what_the_definitions_say(spoken: list[tuple[str, int]]) -> None:
    facts = audit({"train": [row(str(i), "x", s, t) for i, (s, t) in enumerate(spoken)]}, NOWHERE, NO_AUDIO).splits[
        "train"
    ]
    times: Counter[str] = Counter()
    for speaker, seconds in spoken:
        times[speaker] += seconds
    total, n = sum(times.values()), len(times)
    differences = sum(abs(a - b) for a in times.values() for b in times.values())
    assert facts.gini == pytest.approx(differences / (2 * n * total), abs=1e-4)
    assert facts.effective_speakers == pytest.approx(total**2 / sum(t * t for t in times.values()), abs=0.051)
    assert facts.largest_share == pytest.approx(max(times.values()) / total, abs=1e-4)


def test_outliers_are_named_with_their_distance() -> None:
    usual = [row(f"u{i}", "a" * (40 + i % 9), seconds=4.0 + i % 7 / 10) for i in range(60)]
    odd = [row("long", "a" * 400, seconds=40.0), row("slow", "aa", seconds=4.0), row("fast", "a" * 400, seconds=4.0)]
    durations, rates = audit({"train": usual, "test": odd}, NOWHERE, NO_AUDIO).outliers
    assert (durations.kind, durations.low, durations.high) == ("duration_s", 0, 1)
    assert [(o.split, o.clip, o.value) for o in durations.examples] == [("test", "clips/long", 40.0)]
    assert (rates.kind, rates.low, rates.high) == ("chars_per_s", 1, 1)
    assert {o.clip: (o.value, o.z > 0) for o in rates.examples} == {
        "clips/slow": (0.5, False),
        "clips/fast": (100.0, True),
    }
    values = np.log([r.duration for r in (*usual, *odd)])
    spread = np.median(np.abs(values - np.median(values)))
    assert durations.examples[0].z == pytest.approx(0.6745 * (np.log(40.0) - np.median(values)) / spread, abs=0.01)


def test_equal_durations_have_no_outliers_and_odd_rows_break_nothing() -> None:
    splits = {"train": [row(str(i)) for i in range(5)], "test": [row("zero", "", "", 0.0), row("x", "")], "dev": []}
    found = audit(splits, NOWHERE, NO_AUDIO)
    assert [(o.low, o.high) for o in found.outliers] == [(0, 0), (0, 0)]
    assert list(found.splits) == ["train", "test"]
    assert audit({}, NOWHERE, NO_AUDIO).lines == ()
    json.dumps(found.to_json(), allow_nan=False)


def test_examples_are_few_and_counts_are_of_all() -> None:
    many = [row(f"{i:03}", f"x{i}") for i in range(50)]
    (clips, _, sentences) = audit({"train": many, "test": list(reversed(many))}, NOWHERE, NO_AUDIO).shared
    assert (clips.shared, clips.rows, len(clips.examples)) == (50, (50, 50), EXAMPLES)
    assert clips.examples[0] == "clips/000" and sentences.shared == 50


# duplicate audio


def wav(path: Path, seed: int, edge: int = 0) -> None:
    """Noise whose first sample can be another while the middle and the size stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).integers(-9000, 9000, 16000, dtype=np.int16)
    samples[0] = edge
    soundfile.write(path, samples, 16000)


@pytest.fixture
def with_copies(tmp_path: Path) -> dict[str, Sequence[Row]]:
    for name, seed, edge in (("a", 1, 0), ("b", 1, 0), ("c", 1, 5), ("d", 2, 0), ("e", 2, 0), ("f", 3, 0), ("g", 2, 0)):
        wav(tmp_path / f"clips/{name}.wav", seed, edge)
    return {
        "train": [row("a.wav", "one"), row("b.wav", "one"), row("c.wav", "one"), row("d.wav", "two")],
        "test": [row("e.wav", "two"), row("f.wav", "three"), row("g.wav", "other"), row("gone.wav", "x")],
    }


def test_the_same_recording_under_two_names_is_found(tmp_path: Path, with_copies: dict[str, Sequence[Row]]) -> None:
    found = audit(with_copies, tmp_path)
    copies = found.duplicate_audio
    assert copies is not None
    assert (copies.files, copies.unreadable, copies.groups, copies.surplus) == (8, 1, 2, 3)
    assert (copies.across_splits, copies.different_text) == (1, 1)
    assert [[(c.split, c.clip) for c in group] for group in copies.examples] == [
        [("train", "clips/d.wav"), ("test", "clips/e.wav"), ("test", "clips/g.wav")],
        [("train", "clips/a.wav"), ("train", "clips/b.wav")],
    ]
    assert found.warnings[1:] == (
        "1 recordings stand in more than one split, e.g. train clips/d.wav = test clips/e.wav",
        "1 recordings stand with different transcripts, e.g. train clips/d.wav = test clips/e.wav",
    )
    assert "duplicate audio: 3 of 8 files stand twice, 1 could not be read" in found.lines
    assert audit(with_copies, tmp_path, NO_AUDIO).duplicate_audio is None


def test_parts_of_equal_files_are_the_same_where_they_begin_and_end_alike(tmp_path: Path) -> None:
    wav(tmp_path / "clips/a.wav", 1)
    wav(tmp_path / "clips/b.wav", 1)
    parts = [replace(row(clip, seconds=0.5), offset=offset) for clip in ("a.wav", "b.wav") for offset in (0.0, 0.5)]
    copies = audit({"train": [*parts, replace(parts[0], duration=0.25)]}, tmp_path).duplicate_audio
    assert copies is not None and (copies.files, copies.groups, copies.surplus) == (2, 2, 2)


def test_workers_change_nothing(
    tmp_path: Path, with_copies: dict[str, Sequence[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_audio, "CHUNK", 3)
    one = json.dumps(audit(with_copies, tmp_path).to_json())
    assert one == json.dumps(audit(with_copies, tmp_path, workers=2).to_json())


# text


def test_sentences_that_stand_in_a_text(tmp_path: Path) -> None:
    (tmp_path / "lm.txt").write_text("\ufeffTWO!\nnine\n\nSix\nsix\nköln\n", encoding="utf-8")
    (tmp_path / "other.txt").write_text("nothing\n", encoding="utf-8")
    found = audit_text(SPLITS, [tmp_path / "lm.txt", tmp_path / "other.txt"], LANGUAGE, tmp_path)
    assert {(s.text, s.split): (s.shared, s.examples) for s in found if s.shared} == {
        ("lm.txt", "train"): (1, ("two",)),
        ("lm.txt", "dev"): (1, ("two",)),
        ("lm.txt", "test"): (1, ("six",)),
    }
    assert len(found) == 6
    with pytest.raises(UserError, match="no such text file"):
        audit_text(SPLITS, [tmp_path / "gone.txt"], LANGUAGE, tmp_path)


# what is written and shown


def test_the_report_reads_what_was_written(tmp_path: Path, with_copies: dict[str, Sequence[Row]]) -> None:
    for found in (audit(SPLITS, NOWHERE, NO_AUDIO), audit(with_copies, tmp_path)):
        written = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert written["warnings"] == list(found.warnings)
        table = facts_table(written)
        assert [subject for subject, _ in table if subject in found.splits] == list(found.splits)
        assert dict(table)["train and test: speakers"] == f"{1 if found.duplicate_audio is None else 0} in common"
    assert dict(table)["clips that stand twice"] == "3"


def test_real_speech(tmp_path: Path) -> None:
    release = SHARED / "cv-hsb-mini" / "hsb"
    if not release.is_dir():
        pytest.skip("the real clips are not on this machine")
    from hlas.manifests.corpus import open_corpus

    corpus = open_corpus("common_voice", release, tmp_path)
    splits = {
        table: [
            Row(str(corpus.audio / file), 1.0, sentence, speaker=speaker)
            for file, sentence, speaker in corpus.read(table).select("file", "sentence", "speaker").iter_rows()
        ]
        for table in ("train", "dev", "test")
    }
    found = audit(splits, tmp_path)
    assert not any(s.shared for s in found.shared)
    assert found.splits["train"].largest_share == pytest.approx(804 / 923, abs=1e-4)
    assert found.duplicate_audio is not None and found.duplicate_audio.unreadable == 0
    assert found.duplicate_audio.files == 1253
