"""Error rates against hand counts, against jiwer on whole texts, and against a textbook edit distance."""

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hlas.errors import UserError
from hlas.report.metrics import score


def edit_distance(a: list[str], b: list[str]) -> int:
    """The textbook table, one row at a time."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


texts = st.lists(st.sampled_from(["a", "b", "ab", "c"]), max_size=6).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=6))
def test_counts_agree_with_a_textbook_edit_distance(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = [r for r, _ in pairs], [h for _, h in pairs]
    if not any(references):
        with pytest.raises(UserError, match="holds a word"):
            score(references, hypotheses)
        return
    result = score(references, hypotheses)
    expected = [edit_distance(r.split(), h.split()) if r else 0 for r, h in pairs]
    assert result.utterance_errors.tolist() == expected
    assert result.wer == pytest.approx(sum(expected) / sum(len(r.split()) for r in references))
    assert result.substitutions + result.deletions + result.insertions == sum(expected)
    assert result.hits + result.substitutions + result.deletions == result.words == result.utterance_words.sum()
    characters = [edit_distance(list(r), list(h)) for r, h in pairs if r]
    assert result.cer == pytest.approx(sum(characters) / sum(len(r) for r in references))
    assert result.sentence_error_rate == pytest.approx(sum(r != h for r, h in pairs if r) / sum(map(bool, references)))
    assert result.empty_references == references.count("")


def test_rates_are_jiwers_on_the_whole_set() -> None:
    references = ["dobry dźeń wšěm", "witaj", "to je rjenje"]
    hypotheses = ["dobry dźen", "", "to je je rjenje dźensa"]
    result = score(references, hypotheses)
    assert (result.substitutions, result.deletions, result.insertions, result.hits) == (1, 2, 2, 4)
    assert result.wer == jiwer.wer(references, hypotheses) == pytest.approx(5 / 7)
    assert result.cer == jiwer.cer(references, hypotheses)
    assert result.mer == jiwer.mer(references, hypotheses) == pytest.approx(5 / 9)
    assert result.wil == jiwer.wil(references, hypotheses) == pytest.approx(1 - (4 / 7) * (4 / 7))


def test_an_empty_hypothesis_is_deletions_and_rates_can_exceed_one() -> None:
    result = score(["a b", "c"], ["", "x y z"])
    assert (result.deletions, result.substitutions, result.insertions, result.hits) == (2, 1, 2, 0)
    assert result.wer == pytest.approx(5 / 3)
    assert result.wil == result.mer == 1.0
    assert score(["a b"], [""]).wer == 1.0


def test_an_empty_reference_is_reported_apart() -> None:
    result = score(["a b", " "], ["a b", "ghost words"])
    assert result.wer == 0.0
    assert result.insertions == 0
    assert (result.utterances, result.empty_references, result.empty_reference_insertions) == (2, 1, 2)
    assert result.utterance_words.tolist() == [2, 0]


def test_raw_wer_takes_the_raw_texts_and_skips_those_unknown() -> None:
    result = score(["ja", "ně"], ["ja", "ně"], ["Ja!", ""], ["ja", "ně"])
    assert result.wer == 0.0
    assert result.raw_wer == 1.0
    assert score(["ja"], ["ja"], [""], ["ja"]).raw_wer is None
    assert score(["ja"], ["ja"]).raw_wer is None


def test_bleu_is_corpus_level_on_0_to_100_and_splits_no_word() -> None:
    sentence = "wona je w nowym domje"
    assert score([sentence, "tak"], [sentence, "tak"]).bleu == pytest.approx(100.0)
    # sacrebleu's own tokenizer would split "1,5"-like tokens and give credit for their parts
    assert score(["a.b c.d e.f g.h"], ["a.x c.y e.z g.w"]).bleu == pytest.approx(0.0, abs=1e-9)


def test_all_white_space_separates_words() -> None:
    assert score(["a\tb  c"], ["a b c"]).wer == 0.0


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        score(["a", "b"], ["a"])


def test_json_holds_scalars_only() -> None:
    data = score(["a"], ["a"]).to_json()
    assert {"wer", "cer", "mer", "wil", "bleu", "hits", "utterances", "words"} <= data.keys()
    assert all(value is None or isinstance(value, (int, float)) for value in data.values())
