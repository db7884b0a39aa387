"""The C++ search against the reference: equal lists, scores and word times on random input; how it is built."""

import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import kenlm
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hlas.decode.core import core_path, load_core
from hlas.decode.logprobs import Vocabulary
from hlas.decode.search import NO_LM, BackendName, NBest, SearchOptions, open_backend
from hlas.decode.tune import Weights
from hlas.errors import UserError
from hlas.lm import ngram
from hlas.lm.ngram import LmFiles, find_lm

CHARACTERS = Vocabulary((*"abčж", " "), "char", 0.02)
PIECES = Vocabulary(("<unk>", "▁", "▁a", "▁b", "a", "b", "ab", "č", "▁жa", "ж"), "bpe", 0.04)

ARPA = """\\data\\
ngram 1=8
ngram 2=6
ngram 3=2

\\1-grams:
-1.9\t<unk>\t0
0\t<s>\t-0.3
-0.7\t</s>\t0
-0.6\ta\t-0.25
-0.9\tb\t-0.15
-1.1\tab\t-0.2
-1.3\tжa\t-0.1
-1.2\tbčbab\t-0.3

\\2-grams:
-0.2\t<s> a\t-0.1
-0.9\t<s> b\t-0.2
-0.3\ta b\t-0.3
-0.5\tb a\t-0.1
-0.8\tb </s>
-0.4\tab </s>

\\3-grams:
-0.1\t<s> a b
-0.6\ta b a

\\end\\
"""
WORDS = ("a", "b", "ab", "жa", "bčbab")


@pytest.fixture(scope="session", autouse=True)
def core() -> None:
    """The core, built where a compiler is there."""
    try:
        load_core()
    except UserError as error:
        pytest.skip(f"the C++ core cannot be built here: {error.problem}")


@pytest.fixture(scope="session")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LmFiles:
    folder = tmp_path_factory.mktemp("lm")
    (folder / "lm.arpa").write_text(ARPA, encoding="utf-8")
    (folder / "unigrams.txt").write_text("".join(f"{w}\n" for w in (*WORDS, "not-in-the-model")), encoding="utf-8")
    return find_lm(folder)


def both(
    vocabulary: Vocabulary,
    lm: LmFiles | None,
    log_probs: np.ndarray,
    weights: Weights,
    **options: object,
) -> tuple[NBest, NBest]:
    names: tuple[BackendName, ...] = ("fast", "pyctcdecode")
    found = []
    for name in names:
        search = open_backend(vocabulary, lm, SearchOptions(backend=name, **options))  # type: ignore[arg-type]  # by name
        ((nbest,),) = search.decode([log_probs], [weights])
        found.append(nbest)
    return found[0], found[1]


def assert_same(fast: NBest, reference: NBest) -> None:
    assert [c.text for c in fast] == [c.text for c in reference]
    for scores in ("logit_score", "lm_score"):
        assert [getattr(c, scores) for c in fast] == pytest.approx([getattr(c, scores) for c in reference], abs=1e-9)
    assert [c.words for c in fast] == [c.words for c in reference]


def random_log_probs(seed: int, frames: int, columns: int, noise: float) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(scale=noise, size=(frames, columns))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(0, 25),
    noise=st.floats(0.2, 4),
    vocabulary=st.sampled_from([CHARACTERS, PIECES]),
    width=st.sampled_from([1, 2, 7, 30, 100]),
    prune=st.sampled_from([-1.0, -5.0, -10.0, -100.0]),
    token_min=st.sampled_from([-1.0, -3.0, -5.0, -50.0]),
    offset=st.sampled_from([0.0, -2.5, -10.0]),
    weights=st.sampled_from(
        [None, Weights(0.5, 1.5), Weights(1.7, -0.5), Weights(0.0, 0.0), Weights(0.3, 4.0), Weights(-0.4, 0.0)]
    ),
    hotwords=st.lists(st.tuples(st.sampled_from(["a", "ab", "bb", "жaж", "č"]), st.floats(0.5, 12)), max_size=3),
    prune_history=st.booleans(),
)
def test_it_finds_what_the_reference_finds(
    lm: LmFiles,
    seed: int,
    frames: int,
    noise: float,
    vocabulary: Vocabulary,
    width: int,
    prune: float,
    token_min: float,
    offset: float,
    weights: Weights | None,
    hotwords: list[tuple[str, float]],
    prune_history: bool,
) -> None:
    fast, reference = both(
        vocabulary,
        None if weights is None else lm,
        random_log_probs(seed, frames, len(vocabulary.tokens) + 1, noise).astype(np.float32),
        weights or NO_LM,
        width=width,
        beam_prune_logp=prune,
        token_min_logp=token_min,
        unk_score_offset=offset,
        hotwords=tuple(hotwords),
        prune_history=prune_history,
        nbest=20,
        word_times=True,
    )
    assert_same(fast, reference)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shift", [0.0, -3.0, 100.0])  # log-probs that are not normalised, as some exports are
def test_every_type_of_float_is_read(lm: LmFiles, dtype: str, shift: float) -> None:
    for seed in range(5):
        log_probs = (random_log_probs(seed, 12, 11, 2.0) + shift).astype(dtype)
        fast, reference = both(PIECES, lm, log_probs, Weights(0.5, 1.5))
        assert fast[0].text == reference[0].text
        assert fast[0].lm_score == pytest.approx(reference[0].lm_score, abs=1e-9)


def test_rows_of_a_larger_array_are_read_where_they_are() -> None:
    whole = random_log_probs(1, 40, 6, 2.0).astype(np.float16)
    search = open_backend(CHARACTERS, None, SearchOptions(backend="fast"))
    assert search.decode([whole[10:30]], [NO_LM]) == search.decode([whole[10:30].copy()], [NO_LM])
    assert search.decode([whole[10:30]], [NO_LM]) == search.decode([np.asfortranarray(whole[10:30])], [NO_LM])


def test_a_long_recording_is_searched_like_a_short_one(lm: LmFiles) -> None:
    """So many prefixes that the search forgets those that no beam leads back to."""
    log_probs = random_log_probs(7, 4000, 6, 2.0).astype(np.float32)
    fast, reference = both(CHARACTERS, lm, log_probs, Weights(0.5, 1.5), width=12, word_times=True)
    assert len(fast[0].text.split()) > 300
    assert_same(fast, reference)


@pytest.mark.parametrize("kind", ["arpa", "trie", "probing"])
def test_lm_scores_are_kenlms(lm: LmFiles, tmp_path: Path, kind: str) -> None:
    model = lm.model
    if kind != "arpa":
        programs = ngram.find_programs()
        if programs is None:
            pytest.skip("KenLM's build_binary is not here: tools/install_kenlm.sh")
        model = tmp_path / "lm.bin"
        ngram.build_binary(programs, lm.model, model, kind)
    text, weights = "a b a bčbab ab жa b", Weights(0.7, 0.25)
    labels = [CHARACTERS.tokens.index(c) for c in text]
    path = np.full(2 * len(labels), CHARACTERS.blank)
    path[::2] = labels
    log_probs = np.log(np.where(np.arange(6) == path[:, None], 0.995, 0.001))
    search = open_backend(CHARACTERS, LmFiles(model, lm.unigrams), SearchOptions(backend="fast"))
    ((((best,),),)) = search.decode([log_probs], [weights])
    assert best.text == text
    expected = weights.alpha * math.log(10) * kenlm.Model(str(model)).score(text) + weights.beta * 7
    assert best.lm_score - best.logit_score == pytest.approx(expected, abs=1e-5)


def test_a_file_that_is_no_lm_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_text("no such format")
    (tmp_path / "unigrams.txt").write_text("a\n")
    with pytest.raises(UserError, match="not an LM that KenLM can read"):
        open_backend(CHARACTERS, find_lm(tmp_path), SearchOptions(backend="fast"))


def test_several_sessions_do_not_disturb_each_other(lm: LmFiles) -> None:
    log_probs = random_log_probs(3, 15, 6, 2.0)
    one = open_backend(CHARACTERS, lm, SearchOptions(backend="fast", nbest=5))
    before = one.decode([log_probs], [Weights(0.5, 1.5)])
    other = open_backend(CHARACTERS, None, SearchOptions(backend="fast", width=3))
    other.decode([log_probs[::-1]], [NO_LM])
    del other
    assert one.decode([log_probs], [Weights(0.5, 1.5)]) == before


CODE = """
import logging
from hlas.decode.search import resolve_backend
logging.basicConfig(format="%(levelname)s %(message)s")
print(resolve_backend("auto"))
"""


def test_without_a_compiler_auto_is_pyctcdecode_and_says_so_once(tmp_path: Path) -> None:
    environment = os.environ | {"HLAS_KENLM": str(tmp_path), "CXX": "no-such-compiler"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "pyctcdecode\n"
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert "pyctcdecode finds the same texts" in warning


def test_where_nothing_can_be_written_auto_is_pyctcdecode(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")  # root may write everywhere, but not below a file
    environment = os.environ | {"HLAS_KENLM": str(tmp_path / "file")}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "pyctcdecode\n" and "cannot build the fast search here" in done.stderr


def test_the_core_is_named_by_its_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = core_path()
    assert before.is_file()
    for source in (Path(load_core.__wrapped__.__code__.co_filename).parent / "ctc_search").iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr("hlas.decode.core.SOURCES", tmp_path)
    assert core_path() == before
    with (tmp_path / "search.cpp").open("a") as file:
        file.write("// changed\n")
    assert core_path() != before


def test_auto_is_fast_here(caplog: pytest.LogCaptureFixture, lm: LmFiles) -> None:
    from hlas.decode.fast import FastSearch

    with caplog.at_level(logging.WARNING):
        assert isinstance(open_backend(CHARACTERS, lm, SearchOptions()), FastSearch)
    assert not caplog.records
