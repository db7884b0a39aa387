"""The bootstrap against exact enumeration, and its coverage on data whose true WER is known."""

import itertools

import numpy as np
import pytest

from hlas.report.significance import Units, bootstrap_wer, choose_units, interval95, two_sided_p


def utterance_units(count: int) -> Units:
    return choose_units([""] * count, np.ones(count, np.int64))


def test_units_are_speakers_from_ten_on() -> None:
    words = np.ones(20, np.int64)
    ten = choose_units([f"s{i % 10}" for i in range(20)], words)
    assert (ten.kind, ten.count) == ("speaker", 10)
    assert (ten.of[:10] == ten.of[10:]).all()
    nine = choose_units([f"s{i % 9}" for i in range(20)], words)
    assert (nine.kind, nine.count, nine.speakers) == ("utterance", 20, 9)
    assert "new speakers" in nine.note
    assert "new speakers" not in ten.note
    one_unknown = choose_units(["", *(f"s{i}" for i in range(19))], words)
    assert one_unknown.kind == "utterance"


def test_utterances_without_words_are_no_units() -> None:
    units = choose_units(["a", "b", "c"], np.array([2, 0, 3]))
    assert units.of.tolist() == [0, -1, 1]
    assert units.count == 2


def test_resamples_follow_the_exact_distribution() -> None:
    errors, words = np.array([0, 2, 5]), np.array([4, 3, 5])
    units = utterance_units(3)
    exact = [
        sum(errors[i] for i in draw) / sum(words[i] for i in draw) for draw in itertools.product(range(3), repeat=3)
    ]
    sampled = bootstrap_wer([errors], words, units, 40_000, seed=1)[:, 0]
    values, counts = np.unique(np.round(exact, 9), return_counts=True)
    drawn_values, drawn_counts = np.unique(np.round(sampled, 9), return_counts=True)
    assert drawn_values.tolist() == values.tolist()
    np.testing.assert_allclose(drawn_counts / 40_000, counts / 27, atol=0.01)


def test_speaker_resampling_draws_whole_speakers() -> None:
    # speaker i makes i errors in 10 words over two utterances: every resampled WER is a sum of such numbers
    speakers = [f"s{i:02}" for i in range(10) for _ in range(2)]
    errors = np.array([e for i in range(10) for e in (i, 0)])
    words = np.full(20, 5)
    units = choose_units(speakers, words)
    by_hand = bootstrap_wer([np.arange(10)], np.full(10, 10), utterance_units(10), 500, seed=3)
    np.testing.assert_array_equal(bootstrap_wer([errors], words, units, 500, seed=3), by_hand)


def test_the_seed_decides_and_memory_blocks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    errors, words = rng.integers(0, 5, 30), np.full(30, 8)
    units = utterance_units(30)
    whole = bootstrap_wer([errors, errors + 1], words, units, 100, seed=7)
    assert (bootstrap_wer([errors, errors + 1], words, units, 100, seed=8) != whole).any()
    monkeypatch.setattr("hlas.report.significance._WEIGHTS_AT_ONCE", 70)  # two resamples at a time
    np.testing.assert_array_equal(bootstrap_wer([errors, errors + 1], words, units, 100, seed=7), whole)
    np.testing.assert_array_equal(bootstrap_wer([errors], words, units, 100, seed=7)[:, 0], whole[:, 0])


def test_p_values_of_the_clear_cases() -> None:
    rng = np.random.default_rng(0)
    errors, words = rng.integers(0, 5, 200), np.full(200, 8)
    wer = bootstrap_wer([errors, errors, errors + 1], words, utterance_units(200), 1000, seed=0)
    assert two_sided_p(wer[:, 1] - wer[:, 0]) == 1.0
    assert two_sided_p(wer[:, 2] - wer[:, 0]) == pytest.approx(2 / 1001)
    assert two_sided_p(wer[:, 0] - wer[:, 2]) == pytest.approx(2 / 1001)


def test_p_is_the_share_of_exact_resamples_of_the_rarer_sign() -> None:
    differences = np.array([-1.0] * 90 + [0.0] * 4 + [1.0] * 6)
    assert two_sided_p(differences) == pytest.approx(2 * (10 + 1) / 101)
    assert two_sided_p(-differences) == two_sided_p(differences)


def test_pairing_finds_a_small_difference_that_intervals_hide() -> None:
    rng = np.random.default_rng(5)
    hard = rng.integers(0, 9, 300)  # utterances differ much, the systems little
    better = np.maximum(hard - (rng.random(300) < 0.2), 0)
    wer = bootstrap_wer([hard, better], np.full(300, 9), utterance_units(300), 1000, seed=0)
    (low_a, high_a), (low_b, high_b) = interval95(wer[:, 0]), interval95(wer[:, 1])
    assert low_a < high_b and low_b < high_a
    assert two_sided_p(wer[:, 1] - wer[:, 0]) < 0.01


def test_the_interval_covers_the_true_wer_about_95_times_in_100() -> None:
    rng = np.random.default_rng(2)
    words, true_wer, covered = np.full(80, 10), 0.3, 0
    for trial in range(200):
        wer = bootstrap_wer([rng.binomial(10, true_wer, 80)], words, utterance_units(80), 200, seed=trial)
        low, high = interval95(wer[:, 0])
        covered += low <= true_wer <= high
    assert 0.90 <= covered / 200 <= 0.98
