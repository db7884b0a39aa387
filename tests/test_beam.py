"""Both of our beam searches against brute force: every path of a few frames, summed by text, scored by the definition.

And what a search does with odd input: no frames, one frame, silence, infinities, NaN, very many frames.
"""

import itertools
import math
from collections import defaultdict
from pathlib import Path

import kenlm
import numpy as np
import pytest

from hlas.decode.core import load_core
from hlas.decode.greedy import collapse
from hlas.decode.logprobs import BadLogProbs, Vocabulary, log_probs_writer, write_vocabulary
from hlas.decode.search import NO_LM, Backend, NBest, Search, SearchOptions, make_search, open_backend
from hlas.decode.tune import Weights
from hlas.errors import UserError
from hlas.lm.ngram import LmFiles, find_lm
from hlas.manifests.rows import Row

EXHAUSTIVE = {"width": 100_000, "beam_prune_logp": -1e9, "token_min_logp": -1e9, "nbest": 100_000}
CHARACTERS = Vocabulary(("a", "b", " "), "char", 0.02)
PIECES = Vocabulary(("▁", "b", "▁a"), "bpe", 0.04)  # with the bare word start before a piece that continues
WORDS = Vocabulary(("▁a", "▁b", "b"), "bpe", 0.04)
KNOWN = {"a", "ab", "b"}

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

each_vocabulary = pytest.mark.parametrize(
    "vocabulary", [CHARACTERS, PIECES, WORDS], ids=["char", "bare-word-start", "bpe"]
)


@pytest.fixture(scope="module", params=["fast", "pyctcdecode"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each of our backends; the C++ one is built where a compiler is there."""
    if request.param == "fast":
        try:
            load_core()
        except UserError as error:
            pytest.skip(f"the C++ core cannot be built here: {error.problem}")
    name: str = request.param
    return name


@pytest.fixture
def lm(tmp_path: Path) -> LmFiles:
    (tmp_path / "lm.arpa").write_text(ARPA)
    (tmp_path / "unigrams.txt").write_text("a\nab\nb\n")
    return find_lm(tmp_path)


def opened(backend: str, vocabulary: Vocabulary, lm: LmFiles | None = None, **options: object) -> Backend:
    return open_backend(vocabulary, lm, SearchOptions(backend=backend, **options))  # type: ignore[arg-type]  # by name


def nbest(search: Backend, log_probs: np.ndarray, weights: Weights = NO_LM) -> NBest:
    ((found,),) = search.decode([log_probs], [weights])
    return found


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


def lm_score(model: kenlm.Model, text: str, weights: Weights, offset: float = -10.0) -> float:
    """Sum over the words of alpha * ln p(word | history) + beta; alpha * ln p(</s> | history) once."""
    words = text.split()
    scores = [log10_p for log10_p, _, _ in model.full_scores(text)]
    assert len(scores) == len(words) + 1
    log10_p = sum(scores) + sum(offset for word in words if word not in KNOWN)
    return weights.alpha * log10_p * math.log(10) + weights.beta * len(words)


@each_vocabulary
@pytest.mark.parametrize("seed", range(4))
def test_without_lm_it_is_the_exact_ctc_sum(backend: str, vocabulary: Vocabulary, seed: int) -> None:
    log_probs = random_log_probs(seed, 5, 4)
    expected = text_log_probs(log_probs, vocabulary)
    found = nbest(opened(backend, vocabulary, **EXHAUSTIVE), log_probs)
    assert {c.text: c.logit_score for c in found} == pytest.approx(expected, abs=1e-9)
    assert [c.text for c in found] == sorted(expected, key=lambda text: -expected[text])
    assert all(c.lm_score == c.logit_score for c in found)


@each_vocabulary
@pytest.mark.parametrize("weights", [Weights(0.5, 1.5), Weights(1.3, 0.0), Weights(0.0, -2.0)])
@pytest.mark.parametrize("seed", range(2))
def test_with_lm_every_candidate_has_the_defined_score(
    backend: str, lm: LmFiles, vocabulary: Vocabulary, weights: Weights, seed: int
) -> None:
    log_probs = random_log_probs(seed, 5, 4)
    found = nbest(opened(backend, vocabulary, lm, **EXHAUSTIVE), log_probs, weights)
    model = kenlm.Model(str(lm.model))
    expected = {
        text: log_p + lm_score(model, text, weights) for text, log_p in text_log_probs(log_probs, vocabulary).items()
    }
    assert {c.text: c.lm_score for c in found} == pytest.approx(expected, abs=1e-4)  # KenLM computes in float32
    assert [c.text for c in found] == sorted(expected, key=lambda text: -expected[text])
    assert any(set(text.split()) - KNOWN for text in expected)  # or the unknown words' offset is not tested


@each_vocabulary
@pytest.mark.parametrize("with_lm", [True, False])
def test_hotwords_add_their_own_bonuses(backend: str, lm: LmFiles, vocabulary: Vocabulary, with_lm: bool) -> None:
    log_probs, weights = random_log_probs(3, 5, 4), Weights(0.5, 1.5) if with_lm else NO_LM
    bonuses = {"ab": 3.0, "bb": 1.25}  # one that the LM knows, one that it does not
    options = EXHAUSTIVE | {"hotwords": tuple(bonuses.items())}
    found = nbest(opened(backend, vocabulary, lm if with_lm else None, **options), log_probs, weights)
    model = kenlm.Model(str(lm.model))
    expected = {
        text: log_p
        + (lm_score(model, text, weights) if with_lm else 0.0)
        + sum(bonuses.get(word, 0.0) for word in text.split())
        for text, log_p in text_log_probs(log_probs, vocabulary).items()
    }
    assert {c.text: c.lm_score for c in found} == pytest.approx(expected, abs=1e-4)
    assert any(set(text.split()) & set(bonuses) for text in expected)


@each_vocabulary
@pytest.mark.parametrize("width", [1, 3, 10, 1000])
def test_no_score_is_above_brute_force_and_wide_ones_reach_it(
    backend: str, lm: LmFiles, vocabulary: Vocabulary, width: int
) -> None:
    weights, model = Weights(0.5, 1.5), kenlm.Model(str(lm.model))
    search = opened(backend, vocabulary, lm, **EXHAUSTIVE | {"width": width})
    for seed in range(5):
        log_probs = random_log_probs(seed, 5, 4)
        exact = text_log_probs(log_probs, vocabulary)
        found = nbest(search, log_probs, weights)
        for c in found:
            assert c.logit_score <= exact[c.text] + 1e-9
            assert c.lm_score - c.logit_score == pytest.approx(lm_score(model, c.text, weights), abs=1e-4)
        if width == 1000:
            assert {c.text: c.logit_score for c in found} == pytest.approx(exact, abs=1e-9)


@each_vocabulary
def test_weights_of_zero_are_as_no_lm(backend: str, lm: LmFiles, vocabulary: Vocabulary) -> None:
    log_probs = random_log_probs(5, 5, 4)
    weighed = nbest(opened(backend, vocabulary, lm, **EXHAUSTIVE), log_probs, Weights(0.0, 0.0))
    bare = nbest(opened(backend, vocabulary, **EXHAUSTIVE), log_probs)
    assert [c.text for c in weighed] == [c.text for c in bare]
    assert [c.lm_score for c in weighed] == pytest.approx([c.lm_score for c in bare])


def test_the_lm_changes_the_winner(backend: str, lm: LmFiles) -> None:
    #                     ▁a   ▁b   b    blank
    log_probs = np.log([[0.9, 0.04, 0.03, 0.03], [0.05, 0.35, 0.4, 0.2]])
    assert nbest(opened(backend, WORDS), log_probs)[0].text == "ab"
    assert nbest(opened(backend, WORDS, lm), log_probs, Weights(1.0, 1.0))[0].text == "a b"


def test_the_word_list_decides_what_is_known(backend: str, lm: LmFiles) -> None:
    log_probs = random_log_probs(0, 4, 4)
    scores = []
    for words in ("a\nab\nb\n", "a\nb\n"):
        lm.unigrams.write_text(words)
        search = opened(backend, WORDS, lm, **EXHAUSTIVE)
        scores.append({c.text: c.lm_score for c in nbest(search, log_probs, Weights(0.5, 1.5))})
    penalty = 0.5 * -10.0 * math.log(10)
    assert scores[1]["ab"] == pytest.approx(scores[0]["ab"] + penalty)
    assert scores[1]["a b"] == pytest.approx(scores[0]["a b"])


def test_an_lm_without_a_word_list_is_refused(lm: LmFiles) -> None:
    lm.unigrams.write_text("")
    with pytest.raises(UserError, match=r"no words in unigrams\.txt"):
        find_lm(lm.model.parent)
    lm.unigrams.unlink()
    with pytest.raises(UserError, match=r"no words in unigrams\.txt"):
        find_lm(lm.model.parent)


def test_labels_that_pyctcdecode_reads_as_signs_stay_labels(backend: str) -> None:
    vocabulary = Vocabulary(("a", "|", "_", "[unk]", " "), "char", 0.02)
    log_probs = np.log(np.where(np.arange(6) == np.array([[0], [1], [2], [3], [4], [0]]), 0.95, 0.01))
    assert nbest(opened(backend, vocabulary), log_probs)[0].text == "a|_[unk] a"


def test_a_character_model_may_hold_the_word_start_mark(backend: str) -> None:
    vocabulary = Vocabulary(("▁", "a", " "), "char", 0.02)
    log_probs = np.log(np.where(np.arange(4) == np.array([[1], [0], [1]]), 0.97, 0.01))
    assert nbest(opened(backend, vocabulary), log_probs)[0].text == "a▁a"


@pytest.mark.parametrize("tokens", [("a", "a"), ("a", ""), ("▁a", "a▁b"), ("▁a", "b▁")])
def test_labels_that_no_search_can_tell_apart_are_refused(backend: str, tokens: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"label|piece"):
        opened(backend, Vocabulary(tokens, "bpe", 0.02))


def test_nbest_has_as_many_candidates_as_asked(backend: str) -> None:
    found = nbest(opened(backend, CHARACTERS, nbest=3), random_log_probs(1, 5, 4))
    assert len({c.text for c in found}) == 3


def test_words_have_times_and_confidences(backend: str, lm: LmFiles) -> None:
    #                      a    b   ' '  blank
    frames = [[0.94, 0.02, 0.02, 0.02]] * 2 + [[0.02, 0.02, 0.02, 0.94], [0.02, 0.90, 0.02, 0.06]]
    frames += [[0.02, 0.02, 0.94, 0.02]] * 2 + [[0.02, 0.02, 0.02, 0.94], [0.6, 0.36, 0.02, 0.02]]
    found = nbest(opened(backend, CHARACTERS, lm, word_times=True, nbest=2), np.log(frames), Weights(0.5, 1.5))[0]
    assert found.text == "ab a"
    times = [(w.word, w.start_s, w.end_s) for w in found.words]
    assert times == [("ab", 0.0, pytest.approx(0.08)), ("a", pytest.approx(0.14), pytest.approx(0.16))]
    # 'ab' in four frames: every path, by hand; 'a' in one
    paths = ["aab-", "a-b-", "aa-b", "a--b", "-aab", "--ab", "-a-b", "aaab", "aabb", "abbb", "ab--", "abb-", "-abb"]
    paths += ["-ab-", "a-bb"]
    p = {"a": 0, "b": 1, "-": 3}
    total = sum(math.prod(frames[t][p[c]] for t, c in enumerate(path)) for path in paths)
    assert [w.confidence for w in found.words] == pytest.approx([total**0.5, 0.6])


@each_vocabulary
def test_times_are_ordered_and_inside_the_clip(backend: str, vocabulary: Vocabulary) -> None:
    search = opened(backend, vocabulary, word_times=True, nbest=20)
    for seed in range(20):
        for found in nbest(search, random_log_probs(seed, 9, 4)):
            assert [w.word for w in found.words] == found.text.split()
            edges = [edge for w in found.words for edge in (w.start_s, w.end_s)]
            assert edges == sorted(edges)
            assert all(w.start_s < w.end_s for w in found.words)
            assert not edges or (edges[0] >= 0 and edges[-1] <= 9 * vocabulary.frame_s + 1e-9)
            assert all(w.confidence is not None and 0 <= w.confidence <= 1 for w in found.words)


def test_no_frames_and_one_frame(backend: str, lm: LmFiles) -> None:
    for search, weights in ((opened(backend, WORDS, lm, nbest=3), Weights(0.5, 1.5)), (opened(backend, WORDS), NO_LM)):
        assert nbest(search, np.zeros((0, 4)), weights)[0].text == ""
        assert nbest(search, np.log([[0.9, 0.05, 0.03, 0.02]]), weights)[0].text == "a"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_silence_and_infinities(backend: str, lm: LmFiles, dtype: str) -> None:
    search = opened(backend, WORDS, lm)
    silence = np.full((50, 4), -np.inf, dtype)
    silence[:, 3] = 0.0
    found = nbest(search, silence, Weights(0.5, 1.5))[0]
    end = 0.5 * math.log(10) * kenlm.Model(str(lm.model)).score("")
    assert (found.text, found.logit_score) == ("", 0.0)
    assert found.lm_score == pytest.approx(end)
    silence[10, :] = [0.0, -np.inf, -np.inf, -np.inf]
    assert nbest(search, silence, Weights(0.5, 1.5))[0].text == "a"


@pytest.mark.parametrize("bad", [[np.nan, 0, 0, 0], [np.inf, 0, 0, 0], [-np.inf] * 4])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_frame_that_is_no_distribution_is_an_error(backend: str, bad: list[float], dtype: str) -> None:
    log_probs = random_log_probs(0, 6, 4).astype(dtype)
    broken = log_probs.copy()
    broken[4] = bad
    with pytest.raises(BadLogProbs) as caught:
        opened(backend, WORDS).decode([log_probs, broken][1:], [NO_LM])
    assert (caught.value.frame, caught.value.position) == (4, 0)


def test_nan_names_the_utterance(backend: str, tmp_path: Path) -> None:
    write_vocabulary(tmp_path, WORDS)
    with log_probs_writer(tmp_path, "dev", 4) as append:
        append(Row("clips/fine.wav", 1.0, ""), random_log_probs(0, 3, 4))
        append(Row("clips/broken.wav", 1.0, ""), np.full((3, 4), np.nan))
    search = make_search(tmp_path, "dev", None, SearchOptions(backend=backend))  # type: ignore[arg-type]  # by name
    with pytest.raises(UserError, match=r"dev: utterance broken, frame 0: NaN"):
        list(search.run(2, workers=1))


def test_a_hundred_thousand_frames(backend: str, lm: LmFiles) -> None:
    log_probs = np.tile(np.log(np.array([[0.001, 0.001, 0.001, 0.997]])), (100_000, 1)).astype(np.float16)
    spoken = "ab a b" * 20
    for i, letter in enumerate(spoken):
        log_probs[800 * i + 500] = np.log(np.where(np.arange(4) == CHARACTERS.tokens.index(letter), 0.997, 0.001))
    found = nbest(opened(backend, CHARACTERS, lm, word_times=True), log_probs, Weights(0.1, 0.0))[0]
    assert found.text == spoken
    assert found.words[-1].end_s == pytest.approx((800 * 119 + 501) * 0.02)


def test_processes_find_what_one_process_finds(backend: str, tmp_path: Path, lm: LmFiles) -> None:
    write_vocabulary(tmp_path, WORDS)
    with log_probs_writer(tmp_path, "dev", 4) as append:
        for i in range(20):
            append(Row(f"{i}.wav", 1.0, ""), random_log_probs(i, 3 + i % 4, 4))
    options = SearchOptions(backend=backend, nbest=2, word_times=True)  # type: ignore[arg-type]  # by name
    task = make_search(tmp_path, "dev", lm, options, (Weights(0.5, 1.5), Weights(0.0, 0.0)))
    alone = list(task.run(20, workers=1))
    assert alone == list(task.run(20, workers=2))
    assert len(alone) == 20 and all(len(at) == 2 for at in alone)
    assert any(at[0][0].text != at[1][0].text for at in alone)  # the weights reach the search


def test_weights_without_an_lm_are_refused(tmp_path: Path) -> None:
    Search(tmp_path, "dev", None, SearchOptions(), (NO_LM,))
    with pytest.raises(ValueError, match="nothing to weigh"):
        Search(tmp_path, "dev", None, SearchOptions(), (Weights(0.0, 1.5),))
