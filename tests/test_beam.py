"""Beam search against brute force: every path of a few frames, summed by text, scored by the definition."""

import itertools
import math
from collections import defaultdict
from pathlib import Path

import kenlm
import numpy as np
import pytest

from hlas.decode.beam import NO_LM, BeamOptions, BeamSearch, make_decoder, search, set_weights, spellable_share
from hlas.decode.greedy import collapse
from hlas.decode.logprobs import Vocabulary, log_probs_writer, write_vocabulary
from hlas.decode.tune import Weights
from hlas.errors import UserError
from hlas.lm.ngram import LmFiles, find_lm
from hlas.manifests.rows import Row

EXHAUSTIVE = BeamOptions(width=100_000, beam_prune_logp=-1e9, token_min_logp=-1e9, nbest=100_000)
CHARACTERS = Vocabulary(("a", "b", " "), "char", 0.02)
PIECES = Vocabulary(("▁", "b", "▁a"), "bpe", 0.04)  # with the bare word start before a piece that continues
WORDS = Vocabulary(("▁a", "▁b", "b"), "bpe", 0.04)

ARPA = """\\data\\
ngram 1=6
ngram 2=5

\\1-grams:
-1.2\t<unk>\t0
0\t<s>\t-0.3
-0.7\t</s>\t0
-0.6\ta\t-0.25
-0.9\tb\t-0.15
-1.1\tab\t-0.2

\\2-grams:
-0.2\t<s> a
-0.9\t<s> b
-0.3\ta b
-0.8\tb </s>
-0.4\tab </s>

\\end\\
"""


def random_log_probs(seed: int, frames: int, columns: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(scale=1.5, size=(frames, columns))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def text_log_probs(log_probs: np.ndarray, vocabulary: Vocabulary) -> dict[str, float]:
    """log p(text), natural: the sum over every path that collapses to it."""
    sums: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        ids = collapse(np.array(path), vocabulary.blank).tolist()
        sums[vocabulary.text(ids)] += math.exp(log_probs[range(len(path)), path].sum())
    return {text: math.log(p) for text, p in sums.items()}


@pytest.fixture
def lm(tmp_path: Path) -> LmFiles:
    (tmp_path / "lm.arpa").write_text(ARPA)
    (tmp_path / "unigrams.txt").write_text("a\nab\nb\n")
    return find_lm(tmp_path)


@pytest.mark.parametrize("vocabulary", [CHARACTERS, PIECES, WORDS], ids=["char", "bare-word-start", "bpe"])
@pytest.mark.parametrize("seed", range(4))
def test_without_lm_it_is_the_exact_ctc_sum(vocabulary: Vocabulary, seed: int) -> None:
    log_probs = random_log_probs(seed, 5, 4)
    expected = text_log_probs(log_probs, vocabulary)
    found = search(make_decoder(vocabulary, None), log_probs, EXHAUSTIVE)
    assert {c.text: c.logit_score for c in found} == pytest.approx(expected, abs=1e-9)
    assert [c.text for c in found] == sorted(expected, key=lambda text: -expected[text])
    assert all(c.lm_score == c.logit_score for c in found)


def lm_score(model: kenlm.Model, known: set[str], text: str, weights: Weights, offset: float) -> float:
    """Sum over the words of alpha * ln p(word | history) + beta; alpha * ln p(</s> | history) once."""
    words = text.split()
    scores = [log10_p for log10_p, _, _ in model.full_scores(text)]
    assert len(scores) == len(words) + 1
    log10_p = sum(scores) + sum(offset for word in words if word not in known)
    return weights.alpha * log10_p * math.log(10) + weights.beta * len(words)


@pytest.mark.parametrize("vocabulary", [CHARACTERS, PIECES, WORDS], ids=["char", "bare-word-start", "bpe"])
@pytest.mark.parametrize("weights", [Weights(0.5, 1.5), Weights(1.3, 0.0), Weights(0.0, -2.0)])
@pytest.mark.parametrize("seed", range(2))
def test_with_lm_every_candidate_has_the_defined_score(
    lm: LmFiles, vocabulary: Vocabulary, weights: Weights, seed: int
) -> None:
    log_probs = random_log_probs(seed, 5, 4)
    decoder = make_decoder(vocabulary, lm)
    set_weights(decoder, weights, EXHAUSTIVE)
    found = search(decoder, log_probs, EXHAUSTIVE)
    model, known = kenlm.Model(str(lm.model)), {"a", "ab", "b"}
    expected = {
        text: log_p + lm_score(model, known, text, weights, EXHAUSTIVE.unk_score_offset)
        for text, log_p in text_log_probs(log_probs, vocabulary).items()
    }
    assert {c.text: c.lm_score for c in found} == pytest.approx(expected, abs=1e-4)  # KenLM computes in float32
    assert [c.text for c in found] == sorted(expected, key=lambda text: -expected[text])
    assert any(set(text.split()) - known for text in expected)  # or the unknown words' offset is not tested


def test_the_lm_changes_the_winner(lm: LmFiles) -> None:
    #                     ▁a   ▁b   b    blank
    log_probs = np.log([[0.9, 0.04, 0.03, 0.03], [0.05, 0.35, 0.4, 0.2]])
    acoustic = search(make_decoder(WORDS, None), log_probs, EXHAUSTIVE)
    assert acoustic[0].text == "ab"
    decoder = make_decoder(WORDS, lm)
    set_weights(decoder, Weights(1.0, 1.0), EXHAUSTIVE)
    assert search(decoder, log_probs, EXHAUSTIVE)[0].text == "a b"


def test_the_word_list_decides_what_is_known(lm: LmFiles) -> None:
    log_probs = random_log_probs(0, 4, 4)
    scores = []
    for words in ("a\nab\nb\n", "a\nb\n"):
        lm.unigrams.write_text(words)
        decoder = make_decoder(WORDS, lm)
        set_weights(decoder, Weights(0.5, 1.5), EXHAUSTIVE)
        scores.append({c.text: c.lm_score for c in search(decoder, log_probs, EXHAUSTIVE)})
    penalty = 0.5 * EXHAUSTIVE.unk_score_offset * math.log(10)
    assert scores[1]["ab"] == pytest.approx(scores[0]["ab"] + penalty)
    assert scores[1]["a b"] == pytest.approx(scores[0]["a b"])


def test_an_lm_without_a_word_list_is_refused(lm: LmFiles) -> None:
    lm.unigrams.write_text("")
    with pytest.raises(UserError, match=r"no words in unigrams\.txt"):
        find_lm(lm.model.parent)
    lm.unigrams.unlink()
    with pytest.raises(UserError, match=r"no words in unigrams\.txt"):
        find_lm(lm.model.parent)


def test_labels_that_pyctcdecode_reads_as_signs_stay_labels() -> None:
    vocabulary = Vocabulary(("a", "|", "_", "[unk]", " "), "char", 0.02)
    log_probs = np.log(np.where(np.arange(6) == np.array([[0], [1], [2], [3], [4], [0]]), 0.95, 0.01))
    assert search(make_decoder(vocabulary, None), log_probs, BeamOptions())[0].text == "a|_[unk] a"


def test_a_character_model_may_hold_the_word_start_mark() -> None:
    vocabulary = Vocabulary(("▁", "a", " "), "char", 0.02)
    log_probs = np.log(np.where(np.arange(4) == np.array([[1], [0], [1]]), 0.97, 0.01))
    assert search(make_decoder(vocabulary, None), log_probs, BeamOptions())[0].text == "a▁a"


def test_nbest_has_as_many_candidates_as_asked() -> None:
    decoder = make_decoder(CHARACTERS, None)
    found = search(decoder, random_log_probs(1, 5, 4), BeamOptions(nbest=3))
    assert len({c.text for c in found}) == 3
    assert search(decoder, np.zeros((0, 4)), BeamOptions(nbest=3))[0].text == ""


def test_processes_find_what_one_process_finds(tmp_path: Path, lm: LmFiles) -> None:
    write_vocabulary(tmp_path, WORDS)
    with log_probs_writer(tmp_path, "dev", 4) as append:
        for i in range(20):
            append(Row(f"{i}.wav", 1.0, ""), random_log_probs(i, 3 + i % 4, 4))
    task = BeamSearch(tmp_path, "dev", lm, BeamOptions(nbest=2), (Weights(0.5, 1.5), Weights(0.0, 0.0)))
    alone = list(task.run(20, workers=1))
    assert alone == list(task.run(20, workers=2))
    assert len(alone) == 20 and all(len(at) == 2 for at in alone)
    assert any(at[0][0].text != at[1][0].text for at in alone)  # the weights reach the search


def test_weights_without_an_lm_are_refused(tmp_path: Path) -> None:
    BeamSearch(tmp_path, "dev", None, BeamOptions(), (NO_LM,))
    with pytest.raises(ValueError, match="nothing to weigh"):
        BeamSearch(tmp_path, "dev", None, BeamOptions(), (Weights(0.0, 1.5),))


def test_spellable_share() -> None:
    assert spellable_share(["ab", "ba", "ac", "c"], CHARACTERS) == 0.5
    assert spellable_share(["ab", "bb"], PIECES) == 1.0
