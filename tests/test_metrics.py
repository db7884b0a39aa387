"""Error rates against hand counts, jiwer, kaldialign and sacrebleu, and against a textbook edit distance."""

import jiwer
import kaldialign
import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from hlas.errors import UserError
from hlas.report.metrics import Scored, score, score_systems


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
    with pytest.raises(ValueError, match="2 references and 1"):
        score(["a", "b"], ["a"])


def test_json_holds_scalars_only() -> None:
    data = score(["a"], ["a"]).to_json()
    assert {"wer", "cer", "mer", "wil", "bleu", "hits", "utterances", "words"} <= data.keys()
    assert data.pop("raw") is None
    assert all(value is None or isinstance(value, (int, float)) for value in data.values())


words_of_any_script = st.lists(st.sampled_from(["a", "b", "ab", "c", "ž", "ال", "हूँ", "字词", "e\u0301"]), max_size=9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(words_of_any_script, words_of_any_script), min_size=1, max_size=5))
def test_bleu_and_chrf_are_sacrebleus(pairs: list[tuple[list[str], list[str]]]) -> None:
    pairs = [(r, h) for r, h in pairs if r] or [(["a"], [])]
    references, hypotheses = [" ".join(r) for r, _ in pairs], [" ".join(h) for _, h in pairs]
    result = score(references, hypotheses)
    bleu = sacrebleu.corpus_bleu(hypotheses, [references], tokenize="none", force=True)
    assert result.bleu == pytest.approx(bleu.score, abs=1e-9)
    assert result.chrf == pytest.approx(sacrebleu.corpus_chrf(hypotheses, [references]).score, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(words_of_any_script, words_of_any_script), min_size=1, max_size=5))
def test_every_count_is_jiwers_and_kaldialigns(pairs: list[tuple[list[str], list[str]]]) -> None:
    pairs = [(r, h) for r, h in pairs if r] or [(["a"], [])]
    references, hypotheses = [" ".join(r) for r, _ in pairs], [" ".join(h) for _, h in pairs]
    result = score(references, hypotheses)
    words = jiwer.process_words(references, hypotheses)
    counts = (result.substitutions, result.deletions, result.insertions, result.hits)
    assert counts == (words.substitutions, words.deletions, words.insertions, words.hits)
    assert (result.wip, result.mer) == (pytest.approx(words.wip), pytest.approx(words.mer))
    assert result.cer == pytest.approx(jiwer.process_characters(references, hypotheses).cer)
    # kaldialign may split the same number of errors into other kinds
    expected = [kaldialign.edit_distance(r, h)["total"] for r, h in pairs]
    assert result.utterance_errors.tolist() == expected


def test_very_many_kinds_of_tokens_count_the_same() -> None:
    rng = np.random.default_rng(0)
    # 6 tokens of a 64-bit key fit for at most about 1000 kinds: blocks are halved, and one text alone is counted apart
    ideographs = [chr(0x4E00 + int(i)) for i in rng.permutation(3000)]
    references = ["".join(ideographs[i : i + 1500]) for i in (0, 700)] + ["字" * 5]
    hypotheses = [text[:400] + text[401:900] + "x" + text[900:] for text in references]
    found = score(references, hypotheses)
    assert found.chrf == pytest.approx(sacrebleu.corpus_chrf(hypotheses, [references]).score)


def test_blocks_and_processes_do_not_change_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    vocabulary = ["a", "b", "ab", "ba", "c"]
    texts = [" ".join(rng.choice(vocabulary, rng.integers(0, 7))) for _ in range(400)]
    systems = [Scored(texts[:200], texts[200:], texts[:200], texts[200:]), Scored(texts[:200], texts[:200])]
    whole = score_systems(systems, workers=1)
    monkeypatch.setattr("hlas.report.counts._BLOCK", 7)
    monkeypatch.setattr("hlas.report.counts._PARALLEL_FROM", 2)
    for one, other in zip(whole, score_systems(systems, workers=2), strict=True):
        assert one.to_json() == other.to_json()
        assert one.utterance_json() == other.utterance_json()
        assert one.counts.confused == other.counts.confused
        for name in ("utterance", "kind", "reference", "hypothesis"):
            np.testing.assert_array_equal(getattr(one.counts.edits, name), getattr(other.counts.edits, name))
    assert whole[1].wer == 0.0 and whole[1].raw is None


def test_raw_rates_are_those_of_the_raw_texts() -> None:
    result = score(["ja je", "ně"], ["ja", "ně"], ["Ja, je!", "Ně."], ["Ja je", "ně."])
    assert result.raw is not None
    apart, raw = score(["Ja, je!", "Ně."], ["Ja je", "ně."]).to_json(), result.raw.to_json()
    assert raw == {key: apart[key] for key in raw}
    assert (result.raw.substitutions, result.raw_wer) == (3, 1.0)


def test_rates_of_each_utterance() -> None:
    rows = score(["a b", "", "c"], ["a", "x", "c d e"]).utterance_json()
    assert [row["wer"] for row in rows] == [0.5, None, 2.0]
    assert [row["cer"] for row in rows] == [pytest.approx(2 / 3), None, 4.0]
    assert [row["insertions"] for row in rows] == [0, 0, 2]
