"""Systems side by side: which utterances compare, which pairs are tested, what a correction for many does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hlas.errors import UserError
from hlas.manifests.rows import Hypothesis, Row
from hlas.report.evaluate import evaluate
from hlas.report.headline import headline
from hlas.report.pairing import Allowed
from hlas.report.significance import RESAMPLES_A_PAIR, holm
from hlas.report.systems import System

SENTENCES = ["dobrý den", "kde je nádraží", "to nevím", "mluvte prosím pomalu", "děkuji"]


def rows(count: int = 20) -> list[Row]:
    return [
        Row(f"clips/test_{i}.flac", 2.0, SENTENCES[i % 5], SENTENCES[i % 5].capitalize(), f"speaker{i % 12}")
        for i in range(count)
    ]


def heard(row: Row, text: str) -> Hypothesis:
    return Hypothesis(row, text, text)


def perfect(items: Sequence[Row]) -> list[Hypothesis]:
    return [heard(row, row.text) for row in items]


def deaf_to(items: Sequence[Row], *indices: int) -> list[Hypothesis]:
    return [heard(row, "" if i in indices else row.text) for i, row in enumerate(items)]


def systems(hypotheses: Mapping[str, Sequence[Hypothesis]], split: str = "test") -> list[System]:
    return [System(name, "other", Path("/data"), None, (), {split: tuple(h)}) for name, h in hypotheses.items()]


def test_a_difference_that_chance_explains_is_called_so() -> None:
    (result,) = evaluate(systems({"a": deaf_to(rows(30), 7), "b": deaf_to(rows(30), 3, 11)}), "b", 1000, 0)
    (comparison,) = result.comparisons
    assert comparison.p_value > 0.05 and comparison.p_holm == comparison.p_value
    assert comparison.hours == pytest.approx(60 / 3600)
    assert comparison.hours_needed is not None and comparison.hours_needed > comparison.hours
    assert "may be chance" in headline(result)[0] and "To show a difference of this size takes" in headline(result)[0]


def test_the_best_two_are_compared_where_neither_is_the_baseline() -> None:
    items = rows()
    files = {"base": deaf_to(items, *range(20)), "good": deaf_to(items, 0, 1, 2), "better": deaf_to(items, 0)}
    (result,) = evaluate(systems(files), "base", 200, 0)
    assert [(c.a, c.b) for c in result.comparisons] == [("base", "good"), ("base", "better"), ("good", "better")]
    assert "Second is good" in headline(result)[1]
    assert [c.p_holm for c in result.comparisons] == holm([c.p_value for c in result.comparisons])


def test_p_is_corrected_over_all_splits_of_a_report() -> None:
    items = rows()
    both = {"test": tuple(perfect(items)), "dev": tuple(perfect(items))}
    worse = {"test": tuple(deaf_to(items, *range(15))), "dev": tuple(deaf_to(items, *range(15)))}
    two = [System("a", "other", Path("/data"), None, (), worse), System("b", "other", Path("/data"), None, (), both)]
    results = evaluate(two, "a", 1000, 0)
    comparisons = [c for result in results for c in result.comparisons]
    assert len(comparisons) == 2
    assert [c.p_holm for c in comparisons] == pytest.approx([2 * c.p_value for c in comparisons])
    assert [c.mapsswe.p_holm for c in comparisons if c.mapsswe] == pytest.approx(
        [2 * c.mapsswe.p_value for c in comparisons if c.mapsswe]
    )


def test_p_is_corrected_for_all_pairs_as_the_best_is_picked_after_looking() -> None:
    items = rows(60)
    files = {f"s{i}": deaf_to(items, *range(4 * i, 40)) for i in range(6)}
    (result,) = evaluate(systems(files), "s0", 1000, 0)
    p_values = [c.p_value for c in result.comparisons]
    assert len(p_values) < 15 and any(p < 0.2 for p in p_values)
    assert [c.p_holm for c in result.comparisons] == holm(p_values, 6 * 5 // 2) != holm(p_values)


def test_one_utterance_proves_nothing() -> None:
    items = rows(1)
    (result,) = evaluate(systems({"deaf": deaf_to(items, 0), "good": perfect(items)}), "deaf", 1000, 0)
    (comparison,) = result.comparisons
    assert comparison.p_value == 1.0 and comparison.hours_needed is None
    assert "too narrow" in result.units.note and "may be chance" in headline(result)[0]


def test_a_hundred_systems_can_still_be_told_apart() -> None:
    items = rows(30)
    files = {f"s{i}": deaf_to(items, *range(20)) if i else perfect(items) for i in range(100)}
    (result,) = evaluate(systems(files), "s0", 100, 0)
    assert len(result.systems) == 100 and len(result.comparisons) == 99
    assert result.resamples == 100 * 99 // 2 * RESAMPLES_A_PAIR
    assert all(c.significant for c in result.comparisons)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda hyps: hyps[1:], "has 20 utterances and 'b' 19; 1 only in 'a': test_0"),
        (lambda hyps: [replace(hyps[0], row=replace(hyps[0].row, text="jiný")), *hyps[1:]], "other references for 1"),
        (lambda hyps: [*hyps, hyps[0]], "1 utterances occur twice: test_0"),
    ],
)
def test_systems_on_different_utterances_do_not_compare(
    change: Callable[[list[Hypothesis]], list[Hypothesis]], message: str
) -> None:
    hyps = perfect(rows())
    with pytest.raises(UserError, match=message):
        evaluate(systems({"a": hyps, "b": change(hyps)}), "a", 100, 0)


def test_the_clips_that_all_have_are_scored_where_that_is_allowed() -> None:
    items = rows()
    (result,) = evaluate(
        systems({"a": deaf_to(items, 0), "b": deaf_to(items, 19)[5:]}), "a", 100, 0, Allowed(different_clips=True)
    )
    assert [r.utterance for r in result.rows] == [r.utterance for r in items[5:]]
    assert [item.score.sentence_error_rate for item in result.systems] == [0.0, pytest.approx(1 / 15)]
    (warning,) = result.warnings
    assert "Only the 15 that all of them heard are scored; left out: 5 of a, 0 of b" in warning
    with pytest.raises(UserError, match="no clip is in all systems"):
        evaluate(
            systems({"a": perfect(items[:3]), "b": perfect(items[3:])}), "a", 100, 0, Allowed(different_clips=True)
        )


def test_each_system_is_scored_against_its_own_references_where_that_is_allowed() -> None:
    items = rows()
    other = [replace(row, text=f"{row.text} navíc") for row in items]
    (result,) = evaluate(systems({"a": perfect(items), "b": perfect(other)}), "a", 100, 0, Allowed(different_text=True))
    assert [item.score.wer for item in result.systems] == [0.0, 0.0]
    assert [item.score.words for item in result.systems] == [44, 64]
    assert not result.same_text and result.comparisons[0].mapsswe is None
    assert result.analysis.only_right == () and result.analysis.vocabulary == ()
    assert "20 of 20 for b" in result.warnings[0]


def test_utterances_of_one_name_in_several_folders_are_told_apart() -> None:
    named_alike = [replace(r, audio_filepath=f"../m/{i}/audio.wav") for i, r in enumerate(rows())]
    (result,) = evaluate(systems({"a": perfect(named_alike), "b": perfect(named_alike[::-1])}), "a", 100, 0)
    assert [item.score.wer for item in result.systems] == [0.0, 0.0]
    assert result.comparisons[0].p_value == 1.0


def test_parts_of_one_file_are_told_apart_by_their_offsets() -> None:
    parts = [replace(r, audio_filepath="long.wav", offset=2.5 * i) for i, r in enumerate(rows())]
    (result,) = evaluate(systems({"a": perfect(parts), "b": perfect(parts[::-1])}), "a", 100, 0)
    assert [item.score.wer for item in result.systems] == [0.0, 0.0]


def test_what_is_known_of_the_clips_comes_from_the_system_that_says_most() -> None:
    bare = [Row(f"/elsewhere/{r.utterance}.wav", 0.0, r.text) for r in rows()]
    (result,) = evaluate(systems({"other_tool": perfect(bare), "ours": perfect(rows())}), "ours", 100, 0)
    assert result.rows == tuple(rows())
    assert result.units.kind == "speaker"
    assert result.systems[0].audio_s == 40.0
