"""What every backend can and cannot, and the two that bring a search of their own: flashlight and NeMo's beam_batch."""

import itertools
import math
from collections import defaultdict
from pathlib import Path

import kenlm
import numpy as np
import pytest

from hlas.decode.greedy import collapse
from hlas.decode.logprobs import Vocabulary
from hlas.decode.search import CAPABILITIES, NO_LM, SearchOptions, check_search, make_search, open_backend
from hlas.decode.tune import Weights
from hlas.errors import UserError
from hlas.lm.ngram import LmFiles

CHARACTERS = Vocabulary(("a", "b", " "), "char", 0.02)
PIECES = Vocabulary(("▁a", "▁b", "b", "▁"), "bpe", 0.04)

WORD_ARPA = """\\data\\
ngram 1=6
ngram 2=4

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
-0.4\tab </s>

\\end\\
"""


def random_log_probs(seed: int, frames: int, columns: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(scale=1.5, size=(frames, columns))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def write_lm(folder: Path, arpa: str, words: list[str], **kind: object) -> LmFiles:
    (folder / "lm.arpa").write_text(arpa, encoding="utf-8")
    (folder / "unigrams.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    return LmFiles(folder / "lm.arpa", folder / "unigrams.txt", folder / "lm.arpa", **kind)  # type: ignore[arg-type]  # by name


REFUSED = [
    (SearchOptions(backend="flashlight"), None, "a search without an LM", "fast, pyctcdecode, beam_batch"),
    (SearchOptions(backend="flashlight", hotwords=(("a", 5.0),)), "word", "hotwords", "fast, pyctcdecode"),
    (SearchOptions(backend="beam_batch"), "word", "a word LM", "fast, pyctcdecode, flashlight"),
    (SearchOptions(backend="beam_batch", word_times=True), "token", "word times", "fast, pyctcdecode, flashlight"),
    (SearchOptions(backend="beam_batch", prune_history=True), None, "prune_history", "fast, pyctcdecode"),
    (SearchOptions(backend="pyctcdecode"), "token", "a token LM", "beam_batch"),
    (SearchOptions(backend="auto"), "token", "a token LM", "beam_batch"),
]


@pytest.mark.parametrize(("options", "unit", "what", "able"), REFUSED)
def test_what_a_backend_cannot_do_it_refuses(options: SearchOptions, unit: str | None, what: str, able: str) -> None:
    with pytest.raises(UserError) as caught:
        check_search("beam", options, unit)
    assert caught.value.where == "beam.backend"
    assert caught.value.problem == f"'{options.backend}' cannot do {what}"
    assert caught.value.fix == f"backends that can: {able}"


def test_what_is_refused_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot do a search without an LM"):
        make_search(tmp_path, "dev", None, SearchOptions(backend="flashlight"))


@pytest.mark.parametrize("name", CAPABILITIES)
def test_what_a_backend_can_do_is_let_through(name: str) -> None:
    features = CAPABILITIES[name].features
    options = SearchOptions(
        backend=name,  # type: ignore[arg-type]  # by name
        hotwords=(("a", 1.0),) if "hotwords" in features else (),
        word_times="word_times" in features,
        prune_history="prune_history" in features,
    )
    for feature, unit in (("no_lm", None), ("word_lm", "word"), ("token_lm", "token")):
        if feature in features:
            check_search("beam", options, unit)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 0},
        {"nbest": 0},
        {"token_min_logp": 0.5},
        {"backend": "x"},
        {"hotwords": (("a b", 1.0),)},
        {"hotwords": (("a", 0.0),)},
        {"hotwords": (("", 1.0),)},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        SearchOptions(**wrong)  # type: ignore[arg-type]  # wrong on purpose


# --- flashlight


@pytest.fixture
def lm(tmp_path: Path) -> LmFiles:
    pytest.importorskip("flashlight.lib.text", reason="flashlight-text is optional: pip install 'hlas[flashlight]'")
    return write_lm(tmp_path, WORD_ARPA, ["a", "ab", "b", "unspellable"])


def text_log_probs(log_probs: np.ndarray, vocabulary: Vocabulary) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        ids = collapse(np.array(path), vocabulary.blank).tolist()
        sums[vocabulary.text(ids)] += math.exp(log_probs[range(len(path)), path].sum())
    return {text: math.log(p) for text, p in sums.items()}


@pytest.mark.parametrize("seed", range(4))
def test_flashlight_scores_words_of_the_lexicon_as_defined(lm: LmFiles, seed: int) -> None:
    log_probs, weights = random_log_probs(seed, 5, 4), Weights(0.5, 1.5)
    options = SearchOptions(
        backend="flashlight", width=1000, beam_prune_logp=-1e4, token_min_logp=-1e4, nbest=50, word_times=True
    )
    (found,) = open_backend(CHARACTERS, lm, options).decode([log_probs], [weights])[0]
    exact = text_log_probs(log_probs, CHARACTERS)
    model = kenlm.Model(str(lm.model))
    assert len(found) > 5
    for c in found:
        assert set(c.text.split()) <= {"a", "ab", "b"}
        lm_score = weights.alpha * math.log(10) * model.score(c.text) + weights.beta * len(c.text.split())
        assert c.lm_score - c.logit_score == pytest.approx(lm_score, abs=1e-3)
        assert c.logit_score <= exact[c.text] + 1e-3
        assert [w.word for w in c.words] == c.text.split()
        edges = [edge for w in c.words for edge in (w.start_s, w.end_s)]
        assert edges == sorted(edges) and all(0 <= edge <= 0.1 + 1e-9 for edge in edges)


@pytest.mark.parametrize("vocabulary", [CHARACTERS, PIECES], ids=["char", "bpe"])
def test_flashlight_finds_clear_words_and_no_others(lm: LmFiles, vocabulary: Vocabulary) -> None:
    spoken = "ab b a" if vocabulary.unit == "char" else ["▁a", "b", "▁b", "▁a"]
    path = [label for token in spoken for label in (vocabulary.tokens.index(token), vocabulary.blank)]
    log_probs = np.log(np.where(np.arange(vocabulary.blank + 1) == np.array(path)[:, None], 0.96, 0.01))
    search = open_backend(vocabulary, lm, SearchOptions(backend="flashlight", word_times=True))
    best = search.decode([log_probs], [Weights(0.5, 1.5)])[0][0][0]
    assert best.text == "ab b a"
    firsts = [0, 6, 10] if vocabulary.unit == "char" else [0, 4, 6]
    assert [w.start_s for w in best.words] == pytest.approx([f * vocabulary.frame_s for f in firsts])
    lm.unigrams.write_text("a\nb\n")
    closed = open_backend(vocabulary, lm, SearchOptions(backend="flashlight"))
    assert "ab" not in closed.decode([log_probs], [Weights(0.5, 1.5)])[0][0][0].text.split()


def test_flashlight_with_no_frames_and_no_words(lm: LmFiles) -> None:
    search = open_backend(CHARACTERS, lm, SearchOptions(backend="flashlight"))
    assert search.decode([np.zeros((0, 4))], [Weights(0.5, 1.5)])[0][0][0].text == ""
    lm.unigrams.write_text("unspellable\n")
    with pytest.raises(UserError, match="spell none of its words"):
        open_backend(CHARACTERS, lm, SearchOptions(backend="flashlight"))


# --- beam_batch


def token_lm(folder: Path) -> LmFiles:
    """A bigram model of CHARACTERS' tokens in NeMo's encoding."""
    a, b, space = (chr(100 + i) for i in range(3))
    arpa = f"""\\data\\
ngram 1=6
ngram 2=3

\\1-grams:
-1.2\t<unk>\t0
0\t<s>\t-0.3
-0.7\t</s>\t0
-0.4\t{a}\t-0.25
-0.8\t{b}\t-0.15
-0.9\t{space}\t-0.2

\\2-grams:
-0.2\t<s> {a}
-0.3\t{a} {b}
-0.4\t{b} </s>

\\end\\
"""
    return write_lm(folder, arpa, [a, b, space], unit="token", tokens=CHARACTERS.tokens)


def test_beam_batch_scores_tokens_as_defined(tmp_path: Path) -> None:
    lm, weights = token_lm(tmp_path), Weights(0.5, 0.75)
    batch = [random_log_probs(seed, frames, 4) for seed, frames in enumerate((5, 3, 0, 6))]
    search = open_backend(CHARACTERS, lm, SearchOptions(backend="beam_batch", beam_prune_logp=-50.0, nbest=4))
    found = search.decode(batch, [weights])
    assert found[2][0][0].text == ""
    model = kenlm.Model(str(lm.model))
    for log_probs, (nbest,) in zip(batch, found, strict=True):
        if not len(log_probs):
            continue
        exact = text_log_probs(log_probs, CHARACTERS)
        best = nbest[0]
        ids = [CHARACTERS.tokens.index(c) for c in best.text]
        lm_score = math.log(10) * model.score(" ".join(chr(100 + i) for i in ids))
        if best.text == " ".join(best.text.split()) and "  " not in best.text:  # its tokens are the text's
            assert best.lm_score - best.logit_score == pytest.approx(0.5 * lm_score + 0.75 * len(ids), abs=1e-3)
        assert all(c.logit_score <= exact[c.text] + 1e-3 for c in nbest)
        assert nbest[0].lm_score == max(c.lm_score for c in nbest)


def test_beam_batch_finds_the_same_alone_and_in_a_batch(tmp_path: Path) -> None:
    batch = [random_log_probs(seed, frames, 4) for seed, frames in enumerate((5, 12, 1, 8))]
    for lm, weights in ((None, NO_LM), (token_lm(tmp_path), Weights(0.5, 0.75))):
        search = open_backend(CHARACTERS, lm, SearchOptions(backend="beam_batch", nbest=4))
        together = search.decode(batch, [weights])
        for frames, (nbest,) in zip(batch, together, strict=True):
            (alone,) = search.decode([frames], [weights])[0]
            assert [c.text for c in alone] == [c.text for c in nbest]
            assert [c.lm_score for c in alone] == pytest.approx([c.lm_score for c in nbest], abs=1e-4)


def test_beam_batch_refuses_an_lm_of_other_labels(tmp_path: Path) -> None:
    lm = token_lm(tmp_path)
    with pytest.raises(UserError, match="not the labels"):
        open_backend(Vocabulary(("b", "a", " "), "char", 0.02), lm, SearchOptions(backend="beam_batch"))
