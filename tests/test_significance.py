"""The bootstrap against exact enumeration, Kaldi's and a plain loop; its coverage; Holm's correction; hours needed."""

import itertools

import kaldialign
import numpy as np
import pytest
from scipy import stats

from hlas.report.metrics import score
from hlas.report.significance import (
    Units,
    bootstrap_wer,
    choose_units,
    holm,
    hours_needed,
    interval95,
    paired_p,
    resampled_sums,
    student_p,
    two_sided_p,
)


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
    sampled = bootstrap_wer([errors], [words], units, 40_000, seed=1)[:, 0]
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
    by_hand = bootstrap_wer([np.arange(10)], [np.full(10, 10)], utterance_units(10), 500, seed=3)
    np.testing.assert_array_equal(bootstrap_wer([errors], [words], units, 500, seed=3), by_hand)


def test_the_seed_decides_and_memory_blocks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    errors, words = rng.integers(0, 5, 30), np.full(30, 8)
    units = utterance_units(30)
    whole = bootstrap_wer([errors, errors + 1], [words] * 2, units, 100, seed=7)
    assert (bootstrap_wer([errors, errors + 1], [words] * 2, units, 100, seed=8) != whole).any()
    monkeypatch.setattr("hlas.report.significance._WEIGHTS_AT_ONCE", 70)  # two resamples at a time
    np.testing.assert_array_equal(bootstrap_wer([errors, errors + 1], [words] * 2, units, 100, seed=7), whole)
    np.testing.assert_array_equal(bootstrap_wer([errors], [words], units, 100, seed=7)[:, 0], whole[:, 0])


def test_p_values_of_the_clear_cases() -> None:
    rng = np.random.default_rng(0)
    errors, words = rng.integers(0, 5, 200), np.full(200, 8)
    wer = bootstrap_wer([errors, errors, errors + 1], [words] * 3, utterance_units(200), 1000, seed=0)
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
    wer = bootstrap_wer([hard, better], [np.full(300, 9)] * 2, utterance_units(300), 1000, seed=0)
    (low_a, high_a), (low_b, high_b) = interval95(wer[:, 0]), interval95(wer[:, 1])
    assert low_a < high_b and low_b < high_a
    assert two_sided_p(wer[:, 1] - wer[:, 0]) < 0.01


def test_the_interval_covers_the_true_wer_about_95_times_in_100() -> None:
    rng = np.random.default_rng(2)
    words, true_wer, covered = np.full(80, 10), 0.3, 0
    for trial in range(200):
        wer = bootstrap_wer([rng.binomial(10, true_wer, 80)], [words], utterance_units(80), 200, seed=trial)
        low, high = interval95(wer[:, 0])
        covered += low <= true_wer <= high
    assert 0.90 <= covered / 200 <= 0.98


def sentences(count: int, errors: float, seed: int) -> tuple[list[str], list[str]]:
    """References of a few words, and hypotheses with about that share of errors."""
    rng = np.random.default_rng(seed)
    references, hypotheses = [], []
    for length in np.random.default_rng(99).integers(1, 9, count):
        words = [str(w) for w in np.random.default_rng(int(length)).choice(["a", "b", "c", "d"], length)]
        heard = [w if rng.random() > errors else w + "x" for w in words] + ["e"] * int(rng.random() < errors / 2)
        references.append(" ".join(words))
        hypotheses.append(" ".join(heard))
    return references, hypotheses


def test_intervals_and_improvement_are_those_of_kaldis_bootstrap() -> None:
    references, worse = sentences(150, 0.3, 1)
    _, better = sentences(150, 0.25, 2)
    scores = [score(references, worse), score(references, better)]
    words = scores[0].utterance_words
    wer = bootstrap_wer([s.utterance_errors for s in scores], [words] * 2, utterance_units(150), 20_000, seed=0)
    split = [[text.split() for text in texts] for texts in (references, worse, better)]
    kaldi = kaldialign.bootstrap_wer_ci(*split, replications=20_000)
    for column, name in enumerate(("system1", "system2")):
        low, high = interval95(wer[:, column])
        # Kaldi's interval is the mean plus and minus 1.96 standard deviations, ours percentiles: near, not equal
        assert low == pytest.approx(kaldi[name]["ci95min"], abs=0.004)
        assert high == pytest.approx(kaldi[name]["ci95max"], abs=0.004)
        assert wer[:, column].mean() == pytest.approx(kaldi[name]["wer"], abs=0.002)
    improves = float((wer[:, 1] < wer[:, 0]).mean())
    assert improves == pytest.approx(kaldi["p_s2_improv_over_s1"], abs=0.02)
    assert two_sided_p(wer[:, 1] - wer[:, 0]) == pytest.approx(2 * (1 - improves), abs=0.02)


def test_a_plain_loop_over_resamples_finds_the_same_interval() -> None:
    rng = np.random.default_rng(4)
    errors, words = rng.integers(0, 5, 60), rng.integers(1, 9, 60)
    loop = []
    for _ in range(20_000):
        drawn = rng.integers(0, 60, 60)
        loop.append(errors[drawn].sum() / words[drawn].sum())
    wer = bootstrap_wer([errors], [words], utterance_units(60), 20_000, seed=0)[:, 0]
    assert interval95(wer) == pytest.approx(tuple(np.percentile(loop, [2.5, 97.5])), abs=0.004)


def test_large_sums_are_exact_in_double_and_small_ones_in_single_precision() -> None:
    totals = np.random.default_rng(0).integers(0, 1000, (50, 3)).astype(float)
    (small,) = resampled_sums([totals], 50, 200, seed=1)
    (large,) = resampled_sums([totals * 100_003], 50, 200, seed=1)
    np.testing.assert_array_equal(small * 100_003, large)
    with_other, alone = resampled_sums([totals, totals[:, :1]], 50, 200, seed=1)
    np.testing.assert_array_equal(with_other[:, :1], alone)
    np.testing.assert_array_equal(with_other, small)


def test_systems_may_have_references_of_their_own() -> None:
    errors, words = np.array([1, 2, 3]), np.array([4, 5, 6])
    both = bootstrap_wer([errors, errors], [words, 2 * words], utterance_units(3), 100, seed=0)
    np.testing.assert_allclose(both[:, 0], 2 * both[:, 1])


def test_holm_rejects_step_by_step() -> None:
    # S. Holm's procedure itself: compare the k-th smallest of m with alpha / (m - k + 1), stop at the first above
    rng = np.random.default_rng(0)
    for _ in range(50):
        p_values = (rng.random(7) ** 3).tolist()
        adjusted = holm(p_values)
        for alpha in (0.01, 0.05, 0.3):
            rejected = set()
            for k, index in enumerate(sorted(range(7), key=lambda i: p_values[i])):
                if p_values[index] > alpha / (7 - k):
                    break
                rejected.add(index)
            assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected
    assert holm([]) == [] and holm([0.04]) == [0.04]
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    # two of five tests, the others not looked at: as if their p were 1
    assert holm([0.02, 0.01], 5) == pytest.approx(holm([0.02, 0.01, 1, 1, 1])[:2])


def test_students_p_is_scipys() -> None:
    for freedom in range(1, 30):
        for t in (0.0, 0.3, -1.0, 2.5, 9.0):
            assert student_p(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), abs=1e-12)


@pytest.mark.parametrize("count", [3, 5, 12])
def test_few_utterances_do_not_find_what_is_not_there(count: int) -> None:
    rng = np.random.default_rng(count)
    units, words = utterance_units(count), np.full(count, 10)
    plain = mended = 0
    for seed in range(300):
        a, b = rng.poisson(3, (2, count))
        wer = bootstrap_wer([a, b], [words, words], units, 200, seed)
        difference = wer[:, 1] - wer[:, 0]
        plain += two_sided_p(difference) < 0.05
        mended += paired_p(difference, (b.sum() - a.sum()) / words.sum(), count) < 0.05
    assert mended <= 25 < plain or (count == 12 and mended <= 25)  # 15 are expected


def test_as_many_hours_as_are_called_for_show_the_difference_in_about_80_of_100_trials() -> None:
    # a pilot of 400 utterances, of 4 s each, whose paired difference of errors has a known mean and deviation
    words, mean, deviation, pilot = 10, 0.1, 1.5, 400
    hours = pilot * 4 / 3600
    needed = hours_needed(hours, mean / words, deviation / words / np.sqrt(pilot))
    assert needed is not None
    count = round(needed * 3600 / 4)
    rng = np.random.default_rng(0)
    trials = rng.normal(mean, deviation, (1000, count)).mean(axis=1)
    shown = np.mean(trials - 1.96 * deviation / np.sqrt(count) > 0)
    assert 0.76 <= shown <= 0.84
    assert hours_needed(1.0, 0.0, 0.1) is None and hours_needed(0.0, 0.1, 0.1) is None
