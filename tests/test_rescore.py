"""Rescoring of n-best lists: against brute force, on small lists with a second LM, and what it refuses."""

import json
import logging
import math
from itertools import product
from pathlib import Path

import kenlm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlas.decode.rescore import Mix, features_of, reorder, tune_mix
from hlas.decode.rescore_stage import Params, RescoreGrid, run
from hlas.decode.tune import Weights, error_rates
from hlas.errors import UserError
from hlas.files import write_json
from hlas.manifests.rows import Candidate, Hypothesis, Row, Word, audio_path, read_hypotheses, write_rows
from hlas.manifests.text import Language
from hlas.stage import Input, Stage

LANGUAGE = Language("xx", "Test", tuple("acdogst"))
SEARCHED = Weights(0.5, 1.0)
ARPA = """\\data\\
ngram 1=7
ngram 2=3

\\1-grams:
-2\t<unk>\t0
0\t<s>\t-0.3
-0.8\t</s>\t0
-0.7\tcat\t-0.2
-0.7\tdog\t-0.2
-0.7\tgot\t-0.2
-0.7\tsat\t-0.2

\\2-grams:
-0.1\t<s> cat
-0.1\tcat sat
-0.1\tsat </s>

\\end\\
"""


def candidate(text: str, acoustic: float, first_lm: float) -> Candidate:
    """As a search with the weights SEARCHED writes it."""
    added = SEARCHED.alpha * first_lm + SEARCHED.beta * len(text.split())
    return Candidate(text, acoustic, acoustic + added)


# --- the sum


scores = st.floats(-30, 0).map(lambda x: round(x, 3))
candidates = st.lists(
    st.tuples(st.sampled_from(["a b", "a", "b", "c a b", ""]), scores, scores),
    min_size=1,
    max_size=4,
    unique_by=lambda c: c[0],
)


@given(st.lists(st.tuples(st.sampled_from(["a b", "b"]), candidates), min_size=1, max_size=4), st.data())
def test_every_mix_is_scored_as_by_hand(
    utterances: list[tuple[str, list[tuple[str, float, float]]]], data: st.DataObject
) -> None:
    second = {text: data.draw(scores) for text in ("a b", "a", "b", "c a b", "")}
    nbests = [[candidate(*c) for c in found] for _, found in utterances]
    features = [features_of(nbest, SEARCHED, second.__getitem__) for nbest in nbests]
    mixes = [Mix(*weights) for weights in product((0.0, 0.5), (0.0, 0.7), (0.0, 1.5))]
    references = [reference for reference, _ in utterances]
    for point in tune_mix(mixes, references, nbests, features):
        chosen = []
        for _, found in utterances:
            by_hand = [
                acoustic
                + point.mix.first_alpha * first
                + point.mix.alpha * second[text]
                + point.mix.beta * len(text.split())
                for text, acoustic, first in found
            ]
            best = max(by_hand)
            if sum(score > best - 1e-6 for score in by_hand) > 1:
                return  # a tie may go either way
            chosen.append(found[by_hand.index(best)][0])
        assert point.rates == error_rates(references, chosen)


def test_the_searchs_own_weights_give_its_own_order() -> None:
    nbest = [candidate("cat sat", -3.0, -2.0), candidate("cat", -2.5, -5.0), candidate("dog sat", -4.0, -6.0)]
    features = features_of(nbest, SEARCHED, len)
    again = reorder(nbest, features, Mix(SEARCHED.alpha, 0.0, SEARCHED.beta))
    assert [(c.text, c.lm_score) for c in again] == [(c.text, pytest.approx(c.lm_score)) for c in nbest]
    assert features[:, 1] == pytest.approx([-2.0, -5.0, -6.0])
    without = features_of(nbest, Weights(0.0, 0.0), len)  # a beam without an LM
    assert not without[:, 1].any() and np.isfinite(without).all()


# --- the stage


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A decode stage whose best candidates are wrong in dev, and an LM that knows better."""
    decode = tmp_path / "store" / "decode-1"
    decode.mkdir(parents=True)
    lists = {
        "dev": [("cat sat", ["cad sat", "cat sat", "cat"]), ("cat", ["cat", "cad"]), ("sat", ["sad", "sat"])],
        "test": [("cat sat", ["cad sad", "cat sat"]), ("dog", ["dog"])],
    }
    for split, utterances in lists.items():
        hypotheses = []
        for i, (text, found) in enumerate(utterances):
            nbest = tuple(candidate(t, -1.0 - n, -4.0) for n, t in enumerate(found))
            row = Row(f"../manifests-1/clips/{split}{i}.wav", 1.5, text, raw_text=text.title())
            words = (Word(found[0].split()[0], 0.1, 0.5),)
            best = nbest[0]
            hypotheses.append(
                Hypothesis(row, best.text, f"{best.text}!", nbest, best.logit_score, best.lm_score, words)
            )
        write_rows(decode / f"{split}.jsonl", hypotheses)
    write_json(decode / "search.json", {"alpha": SEARCHED.alpha, "beta": SEARCHED.beta})
    write_json(decode / "timing.json", {"dev": {"audio_s": 4.5, "seconds": 10.0}})
    lm = tmp_path / "store" / "lm-1"
    lm.mkdir()
    (lm / "lm.arpa").write_text(ARPA)
    (lm / "unigrams.txt").write_text("cat\ndog\ngot\nsat\n")
    return tmp_path / "store"


def rescore(store: Path, params: Params, name: str = "rescore-1") -> dict[str, object]:
    folder = store / f"{name}.partial"
    folder.mkdir()
    inputs = {"nbest": (Input(store / "decode-1", "beam"),), "lm": (Input(store / "lm-1", "lm"),)}
    stage = Stage(
        recipe="test",
        name=name,
        kind="rescore",
        folder=folder,
        inputs=inputs,
        language=LANGUAGE,
        log=logging.getLogger("hlas"),
        workers=1,
    )
    summary = run(params, stage)
    folder.rename(store / name)
    return summary


def test_stage(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "hlas"):
        summary = rescore(store, Params(tune_on="dev"))
    dev, test = (read_hypotheses(store / "rescore-1" / f"{split}.jsonl") for split in ("dev", "test"))
    assert [h.pred_text for h in dev] == ["cat sat", "cat", "sat"]
    assert [h.pred_text for h in test] == ["cat sat", "dog"]
    first, second = dev[:2]
    # the lists are whole, in a new order with new scores; the acoustic score stays
    assert sorted(c.text for c in first.nbest) == ["cad sat", "cat", "cat sat"]
    assert first.lm_score == first.nbest[0].lm_score and first.logit_score == first.nbest[0].logit_score == -2.0
    assert [c.lm_score for c in first.nbest] == sorted((c.lm_score for c in first.nbest), reverse=True)
    # what the search knew of its own best holds for no other
    assert (first.raw_pred_text, first.words) == ("cat sat", ())
    assert (second.raw_pred_text, len(second.words)) == ("cat!", 1)
    assert audio_path(first.row, store / "rescore-1").resolve() == store / "manifests-1" / "clips" / "dev0.wav"
    assert (store / "rescore-1" / "test.csv").is_file()

    model = kenlm.Model(str(store / "lm-1" / "lm.arpa"))
    lm_ln = math.log(10) * model.score("cat sat")
    expected = -2.0 + summary["first_alpha"] * -4.0 + summary["alpha"] * lm_ln + summary["beta"] * 2
    assert first.lm_score == pytest.approx(expected, abs=1e-3)

    tuning = json.loads((store / "rescore-1" / "tuning.json").read_text())
    assert tuning["split"] == "dev" and tuning["chosen"] in tuning["table"] and tuning["chosen"]["wer"] == 0
    assert {"alpha", "beta", "first_alpha", "wer", "cer", "redecoded"} == set(tuning["chosen"])
    assert summary["dev"]["wer"] == 0 and summary["dev"]["wer_before"] == 0.5
    assert "before 0.5000" in caplog.text
    timing = json.loads((store / "rescore-1" / "timing.json").read_text())
    assert set(timing) == {"dev"} and timing["dev"]["seconds"] >= 10.0
    oov = json.loads((store / "rescore-1" / "oov.json").read_text())
    assert oov == {"dev": {"words": 4, "oov_words": 0}, "test": {"words": 3, "oov_words": 0}}


def test_given_weights(store: Path) -> None:
    summary = rescore(store, Params(alpha=0.0, first_alpha=SEARCHED.alpha, beta=SEARCHED.beta))
    assert summary["weights_from"] == "given" and not (store / "rescore-1" / "tuning.json").exists()
    before, after = (read_hypotheses(store / name / "dev.jsonl") for name in ("decode-1", "rescore-1"))
    assert [(h.pred_text, h.raw_pred_text, h.words) for h in after] == [
        (h.pred_text, h.raw_pred_text, h.words) for h in before
    ]


def test_an_lm_that_adds_nothing_leaves_the_order(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    (store / "lm-1" / "unigrams.txt").write_text("cad\nsad\n")  # the right words are unknown: ten times worse
    summary = rescore(store, Params(tune_on="dev", grid=RescoreGrid(alpha=(0.5, 1.0), first=(1.0,), beta=(1.0,))))
    assert (summary["alpha"], summary["first_alpha"], summary["beta"]) == (0.0, 0.5, 1.0)
    assert summary["dev"]["wer"] == summary["dev"]["wer_before"]
    assert "the LM adds nothing" in caplog.text


def test_what_cannot_be_rescored_is_refused(store: Path) -> None:
    (store / "lm-1" / "lm.json").write_text(json.dumps({"unit": "token", "tokens": ["a"]}))
    with pytest.raises(UserError, match="an LM of tokens"):
        rescore(store, Params(tune_on="dev"), "r1")
    (store / "lm-1" / "lm.json").unlink()
    with pytest.raises(UserError, match="no split 'dve'"):
        rescore(store, Params(tune_on="dve"), "r2")
    (store / "decode-1" / "search.json").unlink()
    with pytest.raises(UserError, match=r"no search\.json"):
        rescore(store, Params(tune_on="dev"), "r3")
    hypotheses = read_hypotheses(store / "decode-1" / "dev.jsonl")
    write_rows(store / "decode-1" / "dev.jsonl", [Hypothesis(h.row, h.pred_text, h.pred_text) for h in hypotheses])
    with pytest.raises(UserError, match="without an n-best list"):
        rescore(store, Params(tune_on="dev"), "r4")


def test_a_clip_of_dev_in_test_is_refused(store: Path) -> None:
    (store / "decode-1" / "test.jsonl").write_bytes((store / "decode-1" / "dev.jsonl").read_bytes())
    with pytest.raises(UserError, match="3 of its utterances are in 'test' too"):
        rescore(store, Params(tune_on="dev"))


@pytest.mark.parametrize("wrong", [{}, {"tune_on": "test"}, {"tune_on": "dev", "alpha": 0.5}, {"alpha": -1.0}])
def test_impossible_parameters_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"tune_on|alpha"):
        Params(**wrong)  # type: ignore[arg-type]  # a wrong value is the point
