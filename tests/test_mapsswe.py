"""The matched-pairs test: its segments against a naive walk over the words, its p against scipy's normal test."""

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hlas.report.mapsswe import WORDS_BETWEEN, mapsswe, segment_differences
from hlas.report.metrics import score

words = st.lists(st.sampled_from(["a", "b", "c"]), max_size=9)


def slots(reference: str, hypothesis: str) -> list[int]:
    """Errors in every gap and at every word of a reference: (2 * words + 1)."""
    out = [0] * (2 * len(reference.split()) + 1)
    (chunks,) = jiwer.process_words([reference], [hypothesis]).alignments
    for chunk in chunks:
        if chunk.type == "insert":
            out[2 * chunk.ref_start_idx] += chunk.hyp_end_idx - chunk.hyp_start_idx
        elif chunk.type != "equal":
            for i in range(chunk.ref_start_idx, chunk.ref_end_idx):
                out[2 * i + 1] += 1
    return out


def naive_segments(references: list[str], a: list[str], b: list[str]) -> list[int]:
    """Walk over each utterance; a segment is open from its first error until enough right words in a row."""
    differences = []
    for reference, first, second in zip(references, a, b, strict=True):
        right, current, is_open = 0, 0, False
        for place, (x, y) in enumerate(zip(slots(reference, first), slots(reference, second), strict=True)):
            if x or y:
                if is_open and right >= WORDS_BETWEEN:
                    differences.append(current)
                    current = 0
                current, right, is_open = current + y - x, 0, True
            elif place % 2:
                right += 1
        if is_open:
            differences.append(current)
    return differences


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(words.filter(bool), words, words), min_size=1, max_size=4))
def test_segments_are_those_of_a_naive_walk(utterances: list[tuple[list[str], list[str], list[str]]]) -> None:
    references, a, b = ([" ".join(u[k]) for u in utterances] for k in range(3))
    found = segment_differences(score(references, a).counts, score(references, b).counts)
    assert found.tolist() == naive_segments(references, a, b)


def test_two_right_words_end_a_segment_and_one_does_not() -> None:
    reference = ["a b c d e f g"]
    one_between = segment_differences(score(reference, ["x b y d e f g"]).counts, score(reference, reference).counts)
    assert one_between.tolist() == [-2]
    two_between = segment_differences(score(reference, ["x b c y e f g"]).counts, score(reference, reference).counts)
    assert two_between.tolist() == [-1, -1]
    # an insertion between the two right words is an error, and the words on its sides count apart
    inserted = segment_differences(score(reference, ["x b q c y e f g"]).counts, score(reference, reference).counts)
    assert inserted.tolist() == [-3]


def test_p_is_that_of_a_normal_test_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    references = [" ".join(rng.choice(["a", "b", "c", "d"], 8)) for _ in range(200)]

    def heard(share: float) -> list[str]:
        return [" ".join(w if rng.random() > share else "x" for w in text.split()) for text in references]

    a, b = heard(0.30), heard(0.22)
    counts = score(references, a).counts, score(references, b).counts
    found = mapsswe(*counts)
    differences = naive_segments(references, a, b)
    statistic = stats.ttest_1samp(differences, 0.0).statistic
    assert found.segments == len(differences) and found.z == pytest.approx(statistic)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(statistic)))
    assert found.z is not None and found.z < 0 and found.mean == pytest.approx(np.mean(differences))
    turned = mapsswe(counts[1], counts[0])
    assert turned.z == pytest.approx(-found.z) and turned.p_value == pytest.approx(found.p_value)


def test_no_difference_and_no_variance() -> None:
    reference = ["a b c", "d e f", "g h i"]
    same = mapsswe(score(reference, ["a", "d", ""]).counts, score(reference, ["a", "d", ""]).counts)
    assert (same.z, same.p_value) == (0.0, 1.0)
    clean = mapsswe(score(reference, reference).counts, score(reference, reference).counts)
    assert (clean.segments, clean.p_value) == (0, 1.0)
    # every segment has the same difference: the sign test's p, 2 * 0.5 ** 3
    constant = mapsswe(score(reference, ["x b c", "x e f", "x h i"]).counts, score(reference, reference).counts)
    assert (constant.segments, constant.z, constant.p_value) == (3, None, 0.25)


def test_it_finds_a_difference_by_chance_in_about_5_of_100_trials() -> None:
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(200):
        references = ["a b c d e f"] * 60
        heard = [
            [" ".join(w if rng.random() > 0.2 else "x" for w in text.split()) for text in references] for _ in range(2)
        ]
        found += mapsswe(*(score(references, h).counts for h in heard)).p_value < 0.05
    assert 1 <= found <= 22  # 10 expected; a binomial with p = 0.05 is outside in fewer than 1 of 1000 runs
