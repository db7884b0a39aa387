"""Each cause of a worse result is provoked and must be named; what is in order must pass without a word."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from hlas.decode.diagnosis import check_lm, check_log_probs, check_oov, check_tuned, explain_loss, spells
from hlas.decode.logprobs import Array, LogProbs, Vocabulary, log_probs_writer, read_log_probs, write_vocabulary
from hlas.decode.tune import Point, Rates, Tuned, Weights
from hlas.decode.tuning_split import check_tuning_split
from hlas.errors import UserError
from hlas.lm import ngram
from hlas.lm.token_text import OFFSET
from hlas.manifests.rows import Row
from hlas.manifests.text import Language

LANGUAGE = Language("xx", "Test", tuple("abcdeäfgst'"), apostrophe="inner")
CHARACTERS = Vocabulary((" ", *LANGUAGE.alphabet), "char", 0.02)
PIECES = Vocabulary(("<unk>", "▁", "a", "▁be", "t", "s", "ad", "▁c", "e"), "bpe", 0.08)
SPOKEN = " ".join(["bad", "cat", "fades", "a", "gäste"] * 5)[:100].strip().ljust(100, "d")
LOG = logging.getLogger("hlas")


def log_probs(folder: Path, frames: Array, vocabulary: Vocabulary = CHARACTERS, dtype: str = "float32") -> LogProbs:
    folder.mkdir()
    write_vocabulary(folder, vocabulary)
    with log_probs_writer(folder, "dev", len(vocabulary.tokens) + 1, dtype) as append:
        append(Row("a.wav", 1.0, SPOKEN), frames)
    return read_log_probs(folder, "dev")


def healthy(blank: int | None = None) -> Array:
    """Natural log-probs of 300 frames, in two of three of which the blank is best."""
    rng = np.random.default_rng(0)
    columns = len(CHARACTERS.tokens) + 1
    labels = np.full(300, columns - 1)
    labels[::3] = [CHARACTERS.tokens.index(c) for c in SPOKEN]
    logits = rng.normal(size=(300, columns))
    logits[np.arange(300), labels] += 8
    if blank is not None:
        logits = np.insert(logits[:, :-1], blank, logits[:, -1], axis=1)
    frames: Array = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return frames


# --- log-probs


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_healthy_log_probs_pass(tmp_path: Path, dtype: str) -> None:
    assert check_log_probs("x", log_probs(tmp_path / "x", healthy(), dtype=dtype)) == []


def test_no_frames_pass(tmp_path: Path) -> None:
    assert check_log_probs("x", log_probs(tmp_path / "x", healthy()[:0])) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda x: x / np.log(10), "of base 10"),
        (lambda x: x / np.log(2), "of base 2"),
        (np.exp, "probabilities, not log-probs"),
    ],
)
def test_another_base_is_named(tmp_path: Path, change: object, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as error:
        check_log_probs("x", log_probs(tmp_path / "x", change(healthy())))  # type: ignore[operator]  # of the table
    assert error.value.where == "x" and error.value.fix


def test_logits_are_named(tmp_path: Path) -> None:
    (warning,) = check_log_probs("x", log_probs(tmp_path / "x", healthy() + 7))
    assert "logits" in warning


@pytest.mark.parametrize("blank", [0, 4])
def test_a_blank_that_is_not_last_is_named(tmp_path: Path, blank: int) -> None:
    with pytest.raises(UserError, match=f"but column {blank}, which is best in 6[0-9] %") as error:
        check_log_probs("x", log_probs(tmp_path / "x", healthy(blank)))
    assert "move that column" in error.value.fix


# --- the LM


def lm(folder: Path, *words: str, unit: str = "word", tokens: tuple[str, ...] = ()) -> ngram.LmFiles:
    folder.mkdir()
    (folder / "lm.arpa").write_text("")
    ngram.write_words(folder / "unigrams.txt", words)
    if unit != "word":
        ngram.describe(folder, order=2, unit=unit, tokens=tokens)
    return ngram.find_lm(folder)


def test_a_fitting_lm_passes(tmp_path: Path) -> None:
    words = lm(tmp_path / "lm", "a", "bad", "cat", "gäste", "that's")
    assert check_lm("x", words, Vocabulary((" ", *LANGUAGE.alphabet, "h"), "char", 0.02), LANGUAGE) == []
    assert check_lm("x", lm(tmp_path / "bpe", "bet", "bad", "a", "cast"), PIECES, LANGUAGE) == []


def test_tokens_for_a_word_search_are_named(tmp_path: Path) -> None:
    encoded = lm(tmp_path / "lm", *(chr(OFFSET + i) for i in range(len(PIECES.tokens))))  # without an lm.json
    with pytest.raises(UserError, match="tokens in NeMo's encoding") as error:
        check_lm("x", encoded, PIECES, LANGUAGE)
    assert "beam_batch" in error.value.fix
    pieces = lm(tmp_path / "pieces", "▁be", "t", "s", "ad", "▁c", "e")
    with pytest.raises(UserError, match="subword pieces"):
        check_lm("x", pieces, PIECES, LANGUAGE)
    letters = lm(tmp_path / "letters", *"abcde")
    with pytest.raises(UserError, match="single letters"):
        check_lm("x", letters, CHARACTERS, LANGUAGE)


def test_tokens_of_another_model_are_named(tmp_path: Path) -> None:
    other = lm(tmp_path / "lm", "d", unit="token", tokens=("a", "b"))
    with pytest.raises(UserError, match="of 2 tokens, the log-probs are of 9 others"):
        check_lm("x", other, PIECES, LANGUAGE)
    assert check_lm("x", lm(tmp_path / "own", "d", unit="token", tokens=PIECES.tokens), PIECES, LANGUAGE) == []


def test_another_normalisation_is_named(tmp_path: Path) -> None:
    some = lm(tmp_path / "some", "bad", "cat", "fad", "Gast", "beads.", "sad")
    first, second = check_lm("x", some, CHARACTERS, LANGUAGE)
    assert "33 % of the LM's words are not as the language's rules write them (Gast, beads.)" in first
    assert "the labels cannot spell 33 %" in second
    capitals = lm(tmp_path / "all", "BAD", "CAT")
    with pytest.raises(UserError, match=r"spell none of the LM's words, e\.g\. BAD, CAT; through .* would be 'bad'"):
        check_lm("x", capitals, CHARACTERS, LANGUAGE)


def test_another_alphabet_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"spell none of the LM's words, e\.g\. кот, дом") as error:
        check_lm("x", lm(tmp_path / "lm", "кот", "дом"), CHARACTERS, LANGUAGE)
    assert "one language's normalised text" in error.value.fix
    (warning,) = check_lm("x", lm(tmp_path / "some", "bad", "cat", "кот"), CHARACTERS, LANGUAGE)
    assert "cannot spell 33 % of the LM's words (кот)" in warning


def test_unknown_words_are_named() -> None:
    assert check_oov("dev", 100, 10) == [] and check_oov("dev", 0, 0) == []
    (warning,) = check_oov("dev", 100, 40)
    assert "does not know 40 % of the words of dev" in warning


# --- weights


def outcome(alpha: float, *at_edge: str) -> Tuned:
    point = Point(Weights(alpha, 1.0), Rates(0.2, 0.1))
    return Tuned(point, (point,), at_edge)


def test_weights_at_the_edge_and_an_lm_of_no_use_are_named() -> None:
    assert check_tuned(outcome(0.5)) == []
    assert check_tuned(outcome(0.5, "beta")) == ["the best beta is at the grid's edge: widen grid.beta"]
    (warning,) = check_tuned(outcome(0.0))
    assert "the LM is of no help" in warning


def test_a_loss_names_the_likely_causes() -> None:
    told = explain_loss("dev", 0.5, 0.4, has_lm=True, tuned=False, found=["the LM does not know 40 %"])
    assert told.startswith("dev: the search is worse than greedy (WER 0.5000, greedy 0.4000); likely causes: ")
    assert "does not know 40 %" in told and "set tune_on: dev" in told
    assert "set tune_on" not in explain_loss("dev", 0.5, 0.4, has_lm=True, tuned=True, found=[])
    assert "width too small" in explain_loss("dev", 0.5, 0.4, has_lm=False, tuned=False, found=[])


# --- the tuning split


def row(audio: str, text: str = "a") -> Row:
    return Row(audio, 1.0, text)


def test_a_clip_in_two_splits_is_refused() -> None:
    dev = [row("../m/clips/a.wav"), row("../m/clips/b.wav", "b")]
    with pytest.raises(UserError, match=r"1 of its utterances are in 'test' too, e\.g\. b: tuned on them"):
        check_tuning_split("beam", "dev", {"dev": dev, "test": [row("../m/clips/b.wav", "c")]}, LOG)
    with pytest.raises(UserError, match=r"1 of its utterances are in 'test_noisy' too, e\.g\. a"):
        check_tuning_split("beam", "dev", {"dev": dev, "test_noisy": [row("../n/a.wav")]}, LOG)


def test_sentences_in_two_splits_are_told(caplog: pytest.LogCaptureFixture) -> None:
    check_tuning_split("beam", "dev", {"dev": [row("a.wav")], "test": [row("b.wav"), row("c.wav", "c")]}, LOG)
    assert "1 of the 2 sentences of test are said in dev too" in caplog.text


def test_a_split_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="no split 'dve'") as error:
        check_tuning_split("beam", "dve", {"dev": [], "test": []}, LOG)
    assert "did you mean 'dev'?" in error.value.fix


def test_the_description_of_an_lm_is_read(tmp_path: Path) -> None:
    found = lm(tmp_path / "lm", "d", unit="token", tokens=("a", "b"))
    assert (found.unit, found.tokens, found.arpa) == ("token", ("a", "b"), tmp_path / "lm" / "lm.arpa")
    assert json.loads((tmp_path / "lm" / "lm.json").read_text())["order"] == 2


def test_spelling_asks_for_every_character() -> None:
    assert [spells(CHARACTERS, word) for word in ("bad", "bäd", "box", "")] == [True, True, False, True]
    assert spells(PIECES, "beads") and not spells(PIECES, "beaf")
