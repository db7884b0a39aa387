"""Breakdowns against plain loops over the utterances; the fairness gap's interval on data whose truth is known."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from hlas.manifests.rows import Row
from hlas.report.breakdown import SMALL_GROUP_WORDS, Breakdown, Dimension
from hlas.report.dimensions import GROUPS_SHOWN, UNKNOWN, divisions
from hlas.report.groups import Counted, break_down
from hlas.report.significance import bootstrap_wer, choose_units, interval95

TEXT = "jeden dva tři čtyři pět šest sedm osm devět deset"


def rows(count: int, speakers: int = 24) -> list[Row]:
    """Ten words each; speakers of two genders, three ages."""
    return [
        Row(
            f"{i}.wav",
            (3.0, 8.0, 20.0)[i % 3],
            TEXT,
            speaker=f"{i % speakers:040}",
            gender=("female", "male")[i % speakers % 2],
            age=("twenties", "teens", "")[i % speakers % 3],
            accents="",
            snr_db=float(i),
        )
        for i in range(count)
    ]


def counted(items: Sequence[Row], errors: Sequence[Sequence[int]], resamples: int = 400) -> Counted:
    words = np.array([len(row.text.split()) for row in items])
    units = choose_units([row.speaker for row in items], words)
    names = [f"s{i}" for i in range(len(errors))]
    return Counted(items, names, [np.array(e) for e in errors], [words] * len(errors), units, resamples, 0)


def broken_down(data: Counted, lm: frozenset[str] = frozenset()) -> dict[Dimension, Breakdown]:
    return {b.name: b for b in break_down(data, divisions(data.rows, data.words[0].tolist(), "an_lm", lm))}


def test_every_group_is_what_a_plain_loop_finds() -> None:
    rng = np.random.default_rng(0)
    items = [replace(row, text=" ".join(TEXT.split()[: 1 + i % 10])) for i, row in enumerate(rows(240))]
    errors = [rng.integers(0, 4, 240).tolist() for _ in range(3)]
    data = counted(items, errors)
    found = broken_down(data)
    plain: dict[Dimension, Callable[[Row], str]] = {
        "duration": lambda r: "below 5 s" if r.duration < 5 else "5 to 15 s" if r.duration < 15 else "15 s and more",
        "speaker": lambda r: r.speaker,
        "gender": lambda r: r.gender,
        "age": lambda r: r.age or UNKNOWN,
    }
    assert {"duration", "text_length", "char_rate", "snr", "speaker", "gender", "age"} <= found.keys()
    assert "accent" not in found and "oov" not in found  # nothing is known of them
    for name, label in plain.items():
        for group in found[name].groups:
            members = [i for i, row in enumerate(items) if label(row) == group.label]
            assert group.members.tolist() == members
            assert group.words == sum(len(items[i].text.split()) for i in members)
            assert group.audio_s == pytest.approx(sum(items[i].duration for i in members))
            assert group.speakers == len({items[i].speaker for i in members})
            assert group.small == (group.words < SMALL_GROUP_WORDS)
            for score, column in zip(group.scores, errors, strict=True):
                assert score.errors == sum(column[i] for i in members)
                assert score.wer == pytest.approx(score.errors / group.words)
    for item in found.values():
        assert sorted(i for group in item.groups for i in group.members) == list(range(240))


def test_the_interval_of_a_group_is_that_of_its_utterances_among_all() -> None:
    items = rows(240, speakers=9)  # too few speakers: utterances are drawn
    errors = np.random.default_rng(1).integers(0, 5, 240)
    data = counted(items, [errors.tolist()])
    female = broken_down(data)["gender"].groups[0]
    masked = np.isin(np.arange(240), female.members)
    wer = bootstrap_wer([errors * masked], [data.words[0] * masked], data.units, 400, 0)[:, 0]
    assert female.scores[0].ci95 == pytest.approx(interval95(wer))


def test_speakers_are_drawn_only_where_every_group_has_enough_of_them() -> None:
    errors = [[1] * 240]
    found = broken_down(counted(rows(240), errors))
    assert (found["gender"].unit, found["duration"].unit) == ("speaker", "utterance")  # 12 and 8 speakers a group
    assert found["speaker"].unit == "utterance"
    # a group of one speaker, all of whose utterances go alike, would else have an interval without width
    assert (
        broken_down(counted(rows(240), [[i % 4 for i in range(240)]]))["speaker"].groups[0].scores[0].ci95 is not None
    )


def test_small_and_unknown_groups_are_shown_and_marked_and_left_out_of_the_gap() -> None:
    items = rows(100)
    items[0] = replace(items[0], gender="other")
    items[1] = replace(items[1], gender="")
    wrong = [10 if i < 2 else int(row.gender == "male") * 4 for i, row in enumerate(items)]
    gender = broken_down(counted(items, [wrong]))["gender"]
    assert [(g.label, g.small, g.known) for g in gender.groups] == [
        ("female", False, True),
        ("male", False, True),
        ("other", True, True),
        (UNKNOWN, True, False),
    ]
    (gap,) = gender.gaps
    assert (gap.worst, gap.best, gap.gap) == ("male", "female", pytest.approx(0.4))
    assert gap.shown


def test_many_speakers_become_the_largest_and_the_others() -> None:
    items = [Row(f"{i}.wav", 1.0, TEXT, speaker=f"speaker{i % 100:03}") for i in range(150)]
    speaker = broken_down(counted(items, [[1] * 150]))["speaker"]
    assert len(speaker.groups) == GROUPS_SHOWN
    assert speaker.groups[-1].label == "61 others" and speaker.groups[-1].utterances == 11 + 61
    assert [g.utterances for g in speaker.groups[:-1]] == [2] * 39
    assert "of 100" in speaker.note


def test_long_names_of_speakers_are_cut_where_that_tells_them_apart() -> None:
    items = [Row(f"{i}.wav", 1.0, TEXT, speaker=("abcdefgh1" if i % 2 else "abcdefgh2") + "0" * 100) for i in range(20)]
    assert [g.label for g in broken_down(counted(items, [[1] * 20]))["speaker"].groups] == ["abcdefgh1", "abcdefgh2"]


def test_counts_of_words_have_labels_that_say_which_they_hold() -> None:
    texts = [" ".join(["a"] * n) for n in (1, 2, 3, 4, 5, 6, 7, 8)]
    items = [Row(f"{i}.wav", 0.0, text) for i, text in enumerate(texts)]
    found = broken_down(counted(items, [[0] * 8]))
    assert found.keys() == {"text_length"}  # without durations no rate and no group of durations
    labels = [g.label for g in found["text_length"].groups]
    assert labels == ["up to 2 words", "3 to 4 words", "5 to 6 words", "7 words and more"]
    assert [g.utterances for g in found["text_length"].groups] == [2, 2, 2, 2]


def test_utterances_with_words_that_the_lm_does_not_know() -> None:
    items = [replace(row, text=TEXT if i % 4 else f"{TEXT} neznámé") for i, row in enumerate(rows(80))]
    oov = broken_down(counted(items, [[0] * 80]), frozenset(TEXT.split()))["oov"]
    assert [(g.label, g.utterances) for g in oov.groups] == [("all words known", 60), ("with unknown words", 20)]
    assert "an_lm" in oov.note


def test_empty_references_belong_to_a_group_and_count_in_no_rate() -> None:
    items = [replace(row, text="" if i < 10 else TEXT) for i, row in enumerate(rows(40))]
    duration = broken_down(counted(items, [[0] * 10 + [1] * 30]))["duration"]
    assert sum(g.utterances for g in duration.groups) == 40 and sum(g.words for g in duration.groups) == 300
    lengths = broken_down(counted([replace(items[-1], text="a b"), *items], [[0] * 41]))["text_length"].groups
    assert [(g.label, g.utterances) for g in lengths] == [
        ("up to 9 words", 1),
        ("10 words and more", 30),
        (UNKNOWN, 10),
    ]
    assert lengths[-1].scores[0].wer is None and lengths[-1].scores[0].ci95 is None


def test_the_gaps_interval_covers_groups_that_do_not_differ() -> None:
    """Eight groups of one true WER: a plain interval of the two extremes would often leave 0 out."""
    rng = np.random.default_rng(5)
    items = [Row(f"{i}.wav", 1.0, TEXT, accents=f"accent {i % 8}") for i in range(400)]
    false_findings = sum(
        broken_down(counted(items, [rng.binomial(10, 0.3, 400).tolist()], resamples=200))["accent"].gaps[0].shown
        for _ in range(60)
    )
    assert false_findings <= 8  # 3 expected; more than 8 have a chance below 0.5 %


def test_the_gaps_interval_holds_the_true_gap() -> None:
    rng = np.random.default_rng(6)
    items = [Row(f"{i}.wav", 1.0, TEXT, accents=f"accent {i % 2}") for i in range(400)]
    covered = 0
    for _ in range(60):
        errors = np.where(np.arange(400) % 2, rng.binomial(10, 0.4, 400), rng.binomial(10, 0.3, 400))
        (gap,) = broken_down(counted(items, [errors.tolist()], resamples=200))["accent"].gaps
        covered += gap.ci95[0] <= 0.1 <= gap.ci95[1]
    assert covered >= 52  # 57 expected


def test_tables_too_large_for_one_pass_are_resampled_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    data = counted(rows(120), [np.random.default_rng(2).integers(0, 5, 120).tolist()])
    whole = [b.to_json() for b in broken_down(data).values()]
    monkeypatch.setattr("hlas.report.groups._ELEMENTS_AT_ONCE", 1)
    assert [b.to_json() for b in broken_down(data).values()] == whole
