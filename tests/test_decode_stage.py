"""The decode stage on small log-probs: its files, its choices, and what it refuses."""

import csv
import json
import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hlas.decode.logprobs import Vocabulary, log_probs_writer, write_vocabulary
from hlas.decode.rescore_stage import Params as RescoreParams
from hlas.decode.rescore_stage import RescoreGrid
from hlas.decode.search import SearchOptions, open_backend
from hlas.decode.stage import Params, run
from hlas.decode.tune import Grid
from hlas.errors import UserError
from hlas.lm import ngram
from hlas.manifests.rows import Row, audio_path, read_hypotheses
from hlas.manifests.text import Language
from hlas.stage import Input, Stage

LANGUAGE = Language("xx", "Test", tuple("acdogst"))
VOCABULARY = Vocabulary((*LANGUAGE.alphabet, " "), "char", 0.02)
SENTENCES = {"dev": ["cat sat", "dog sat", "cat got dog"], "test": ["dog got cat", "toad sat"]}
SMALL = Grid(alpha=(0.0, 0.5), beta=(0.0, 1.0))
ARPA = """\\data\\
ngram 1=7
ngram 2=4

\\1-grams:
-2\t<unk>\t0
0\t<s>\t-0.3
-0.8\t</s>\t0
-0.7\tcat\t-0.2
-0.7\tdog\t-0.2
-0.7\tgot\t-0.2
-0.7\tsat\t-0.2

\\2-grams:
-0.3\t<s> cat
-0.3\t<s> dog
-0.3\tcat sat
-0.2\tsat </s>

\\end\\
"""


def frames_of(text: str, wrong: dict[str, str]) -> np.ndarray:
    """Two frames a character and a blank; a character in `wrong` loses narrowly to another one."""
    rows = []
    for character in text:
        likely = np.full(len(VOCABULARY.tokens) + 1, 0.01)
        likely[VOCABULARY.tokens.index(character)] = 0.4
        if character in wrong:
            likely[VOCABULARY.tokens.index(wrong[character])] = 0.5
        blank = np.full(len(VOCABULARY.tokens) + 1, 0.01)
        blank[VOCABULARY.blank] = 0.9
        rows += [likely, blank]
    p = np.array(rows)
    return np.log(p / p.sum(axis=1, keepdims=True))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with log-probs, in which the best label of every 't' is 'd', and an LM that knows better."""
    write_log_probs(tmp_path / "store" / "logprobs-1", SENTENCES)
    write_lm(tmp_path / "store" / "lm-1", ARPA, "cat dog got sat")
    return tmp_path / "store"


def write_log_probs(folder: Path, splits: dict[str, list[str]]) -> None:
    folder.mkdir(parents=True)
    write_vocabulary(folder, VOCABULARY)
    for split, sentences in splits.items():
        with log_probs_writer(folder, split, len(VOCABULARY.tokens) + 1) as append:
            for i, text in enumerate(sentences):
                row = Row(f"../manifests-1/clips/{split}{i}.wav", 1.5, text, raw_text=f'{text.title()}, "he" said')
                append(row, frames_of(text, {"t": "d"}))
    timing = {split: {"audio_s": 1.5 * len(s), "seconds": 10.0} for split, s in splits.items()}
    (folder / "timing.json").write_text(json.dumps(timing))


def write_lm(folder: Path, arpa: str, words: str) -> None:
    folder.mkdir()
    (folder / "lm.arpa").write_text(arpa)
    (folder / "unigrams.txt").write_text("".join(f"{word}\n" for word in words.split()))


def decode(store: Path, params: Params, lm: str = "", name: str = "decode-1", workers: int = 1) -> dict[str, object]:
    inputs = {"logprobs": (Input(store / "logprobs-1", "logprobs"),)}
    if lm:
        inputs["lm"] = (Input(store / lm, "lm"),)
    folder = store / f"{name}.partial"
    folder.mkdir()
    stage = Stage(
        recipe="test",
        name=name,
        kind="decode",
        folder=folder,
        inputs=inputs,
        language=LANGUAGE,
        log=logging.getLogger("hlas"),
        workers=workers,
    )
    summary = run(params, stage)
    folder.rename(store / name)
    return summary


def predictions(store: Path, split: str, name: str = "decode-1") -> list[str]:
    return [h.pred_text for h in read_hypotheses(store / name / f"{split}.jsonl")]


def test_greedy(store: Path) -> None:
    summary = decode(store, Params())
    assert predictions(store, "dev") == ["cad sad", "dog sad", "cad god dog"]
    assert summary["counts"] == {"dev": 3, "test": 2} and summary["backend"] == "greedy"
    assert summary["dev"]["wer"] == summary["dev"]["greedy_wer"] == pytest.approx(5 / 7)
    assert "test" not in summary  # the report scores it, once
    first = read_hypotheses(store / "decode-1" / "test.jsonl")[0]
    assert (first.nbest, first.logit_score, first.raw_pred_text) == ((), None, "dog god cad")
    assert not (store / "decode-1" / "oov.json").exists()
    # the audio path of the manifest, from this folder's place
    assert audio_path(first.row, store / "decode-1").resolve() == store / "manifests-1" / "clips" / "test0.wav"
    timing = json.loads((store / "decode-1" / "timing.json").read_text())
    assert timing["dev"] == {"audio_s": 4.5, "seconds": pytest.approx(10.0 + summary["search_s"]["dev"])}


def test_csv_holds_the_same(store: Path) -> None:
    decode(store, Params())
    with (store / "decode-1" / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["utterance"], r["text"], r["pred_text"]) for r in rows] == [
        ("test0", "dog got cat", "dog god cad"),
        ("test1", "toad sat", "doad sad"),
    ]
    assert rows[0]["raw_text"] == 'Dog Got Cat, "he" said'


def test_beam_without_lm(store: Path) -> None:
    summary = decode(store, Params(backend="pyctcdecode", nbest=3))
    assert predictions(store, "test") == ["dog god cad", "doad sad"]
    best = read_hypotheses(store / "decode-1" / "test.jsonl")[0]
    assert len(best.nbest) == 3 and best.nbest[0].text == best.pred_text
    assert best.lm_score == best.logit_score == best.nbest[0].logit_score > best.nbest[1].logit_score
    assert "alpha" not in summary


def test_beam_with_tuned_lm(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "hlas"):
        summary = decode(store, Params(backend="pyctcdecode", nbest=4, tune_on="dev", grid=SMALL), lm="lm-1")
    assert predictions(store, "dev") == SENTENCES["dev"]
    assert predictions(store, "test")[0] == "dog got cat"
    tuning = json.loads((store / "decode-1" / "tuning.json").read_text())
    assert tuning["split"] == "dev" and tuning["chosen"] in tuning["table"] and len(tuning["table"]) == 4
    best = min(tuning["table"], key=lambda p: (p["wer"], p["cer"], p["alpha"], p["beta"]))
    assert tuning["chosen"] == best and best["alpha"] == 0.5 and best["wer"] == 0
    assert max(p["wer"] for p in tuning["table"]) > 0
    assert (summary["alpha"], summary["beta"]) == (best["alpha"], best["beta"])
    assert summary["weights_from"] == "tuned on dev" and summary["dev"]["wer"] == 0
    assert "the best alpha is at the grid's edge" in caplog.text
    oov = json.loads((store / "decode-1" / "oov.json").read_text())
    assert oov == {"dev": {"words": 7, "oov_words": 0}, "test": {"words": 5, "oov_words": 1}}


def test_a_larger_grid_and_the_width(store: Path) -> None:
    grid = Grid(alpha=(0.0, 0.2, 0.4, 0.6), beta=(0.0, 1.0, 2.0), width=(1, 20))
    summary = decode(store, Params(backend="pyctcdecode", width=20, tune_on="dev", grid=grid), lm="lm-1")
    tuning = json.loads((store / "decode-1" / "tuning.json").read_text())
    points = [(p["alpha"], p["beta"]) for p in tuning["table"] if p["width"] == 20]
    assert points == [(a, b) for a in grid.alpha for b in grid.beta]
    (narrow,) = (p for p in tuning["table"] if p["width"] == 1)
    # so clear are these log-probs that a width of 1 is as good
    assert narrow["redecoded"] and narrow["wer"] == tuning["chosen"]["wer"] == summary["dev"]["wer"]
    assert tuning["chosen"]["width"] == summary["width"] == 1
    search = json.loads((store / "decode-1" / "search.json").read_text())
    assert (search["alpha"], search["beta"], search["width"]) == (summary["alpha"], summary["beta"], 1)


def test_two_processes_find_what_one_finds(store: Path) -> None:
    many = {"dev": [f"{a} {b}" for a in SENTENCES["dev"] for b in ("cat", "got dog", "sat")], "test": ["dog"]}
    shutil.rmtree(store / "logprobs-1")
    write_log_probs(store / "logprobs-1", many)
    params = Params(backend="auto", nbest=3, tune_on="dev", grid=SMALL, word_times=True)
    summaries = [decode(store, params, lm="lm-1", name=f"w{workers}", workers=workers) for workers in (1, 2)]
    for name in ("dev.jsonl", "dev.csv", "test.jsonl", "tuning.json", "search.json", "oov.json"):
        assert (store / "w1" / name).read_bytes() == (store / "w2" / name).read_bytes()
    assert summaries[0]["dev"] == summaries[1]["dev"]
    best = read_hypotheses(store / "w1" / "dev.jsonl")[0]
    assert [w.word for w in best.words] == best.pred_text.split()


def test_hotwords_reach_the_search(store: Path) -> None:
    decode(store, Params(backend="pyctcdecode", hotwords={"cat": 1.0}))
    assert predictions(store, "test")[0] == "dog god cat"
    assert predictions(store, "dev")[0].split()[0] == "cat"


def test_weights_that_are_neither_given_nor_tuned_are_told(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    summary = decode(store, Params(backend="pyctcdecode"), lm="lm-1")
    assert (summary["alpha"], summary["beta"], summary["weights_from"]) == (0.5, 1.5, "default")
    assert "alpha 0.5 and beta 1.5 are not tuned" in caplog.text
    given = decode(store, Params(backend="pyctcdecode", alpha=0.4, beta=0.0), lm="lm-1", name="decode-2")
    assert (given["alpha"], given["beta"], given["weights_from"]) == (0.4, 0.0, "given")


def test_an_lm_that_hurts_is_told(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_lm(store / "lm-2", ARPA.replace("cat", "taco").replace("sat", "sad"), "taco dog got sad")
    decode(store, Params(backend="pyctcdecode", alpha=3.0, beta=0.0), lm="lm-2")
    assert "worse than greedy" not in caplog.text  # as many errors as greedy is not worse
    decode(store, Params(backend="pyctcdecode", alpha=3.0, beta=-20.0), lm="lm-2", name="decode-2")
    (loss,) = (r.message for r in caplog.records if "worse than greedy" in r.message)
    assert "likely causes: the LM does not know 57 % of the words of dev" in loss


def test_an_lm_of_another_alphabet(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_lm(store / "lm-2", ARPA, "кот кит")
    with pytest.raises(UserError, match="spell none of the LM's words"):
        decode(store, Params(backend="pyctcdecode"), lm="lm-2")
    write_lm(store / "lm-3", ARPA, "cat dog got кот")
    summary = decode(store, Params(backend="pyctcdecode"), lm="lm-3", name="decode-3")
    assert "cannot spell 25 % of the LM's words" in caplog.text
    assert any("cannot spell" in warning for warning in summary["warnings"])


def test_an_lm_of_another_unit(store: Path) -> None:
    ngram.describe(store / "lm-1", order=2, unit="token", tokens=VOCABULARY.tokens)
    with pytest.raises(UserError, match="a token LM") as error:
        decode(store, Params(backend="auto"), lm="lm-1")
    assert "beam_batch" in error.value.fix
    ngram.describe(store / "lm-1", order=2, unit="word")
    with pytest.raises(UserError, match="a word LM"):
        decode(store, Params(backend="beam_batch"), lm="lm-1", name="decode-2")


def test_log_probs_of_another_base_are_refused(store: Path) -> None:
    path = store / "logprobs-1" / "dev.npy"
    np.save(path, (np.load(path).astype(np.float32) / np.log(10)).astype(np.float16))
    with pytest.raises(UserError, match="of base 10") as error:
        decode(store, Params())
    assert error.value.where.endswith("logprobs-1, dev")


def test_dev_clips_in_test_are_refused(store: Path) -> None:
    for name in ("npy", "index.jsonl"):
        shutil.copy(store / "logprobs-1" / f"dev.{name}", store / "logprobs-1" / f"test.{name}")
    with pytest.raises(UserError, match="3 of its utterances are in 'test' too"):
        decode(store, Params(backend="pyctcdecode", tune_on="dev", grid=SMALL), lm="lm-1")


@pytest.mark.parametrize(
    ("params", "lm", "message"),
    [
        (Params(), "lm-1", "a greedy search reads no LM"),
        (Params(backend="pyctcdecode", tune_on="dev"), "", "nothing to tune"),
        (Params(backend="pyctcdecode", beta=1.0), "", "there is none"),
        (Params(backend="pyctcdecode", tune_on="dve"), "lm-1", "no split 'dve'"),
    ],
)
def test_contradictions_are_refused(store: Path, params: Params, lm: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        decode(store, params, lm=lm)


def test_imported_log_probs_have_no_rtfx(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    (store / "logprobs-1" / "timing.json").unlink()
    decode(store, Params())
    assert json.loads((store / "decode-1" / "timing.json").read_text()) == {}
    assert "no time of the acoustic model for dev, test" in caplog.text


def test_a_folder_without_log_probs_is_refused(store: Path) -> None:
    for path in (store / "logprobs-1").glob("*.index.jsonl"):
        path.unlink()
    with pytest.raises(UserError, match="no log-probs"):
        decode(store, Params())


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("test.npy", lambda data: data[:-4], "not a whole array"),
        ("test.npy", lambda data: b"", "not a whole array"),
        ("test.npy", lambda data: data.replace(b"<f2", b"<i2"), "holds int16"),
        ("test.npy", lambda data: data.replace(b"<f2", b">f2"), "holds >f2"),
        ("test.index.jsonl", lambda data: data.replace(b'"first_frame": 0', b'"first_frame": 9000'), "9000 to"),
        ("test.index.jsonl", lambda data: data.replace(b'"first_frame": 0', b'"first_frame": -3'), "-3 to"),
        ("test.index.jsonl", lambda data: data.replace(b'"frames"', b'"fr"'), "not an entry of an index"),
        ("test.index.jsonl", lambda data: data + b"{", "not an entry of an index"),
        ("vocabulary.json", lambda data: data[:9], "not a vocabulary"),
        ("vocabulary.json", lambda data: data.replace(b'"char"', b'"word"'), "unit 'word'"),
    ],
)
def test_damaged_log_probs_are_refused(store: Path, file: str, change: Callable[[bytes], bytes], message: str) -> None:
    path = store / "logprobs-1" / file
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
    with pytest.raises(UserError, match=message):
        decode(store, Params())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Params(alpha=math.nan),
        lambda: Params(alpha=0.5, beta=math.inf),
        lambda: Grid(alpha=(math.nan,)),
        lambda: RescoreGrid(beta=(math.nan,)),
        lambda: RescoreParams(alpha=0.5, beta=math.nan),
        lambda: SearchOptions(beam_prune_logp=math.nan),
        lambda: SearchOptions(width=1 << 32),  # 0 in the C++ core's 32 bits
        lambda: SearchOptions(hotwords=(("a\0b", 1.0),)),  # the core's words end at a zero byte
        lambda: SearchOptions(hotwords=(("a", math.inf),)),
    ],
)
def test_numbers_without_an_order_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"finite|at least|numbers|are 1 to|each larger"):
        make()


def test_white_space_that_is_no_space_has_no_word_times() -> None:
    vocabulary = Vocabulary((*VOCABULARY.tokens, "\u00a0"), "char", 0.02)
    options = SearchOptions(backend="pyctcdecode")
    open_backend(vocabulary, None, options)
    with pytest.raises(UserError, match="words have no times"):
        open_backend(vocabulary, None, replace(options, word_times=True))


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("unigrams.txt", b"\xe4\n", "not UTF-8"),
        ("lm.json", b"[", "not a description"),
        ("lm.json", b"[]", "not a description"),
        ("lm.json", b'{"unit": "char"}', "unit 'char'"),
    ],
)
def test_a_damaged_lm_folder_is_refused(store: Path, file: str, data: bytes, message: str) -> None:
    (store / "lm-1" / file).write_bytes(data)
    with pytest.raises(UserError, match=message):
        decode(store, Params("pyctcdecode", alpha=0.5, beta=1.5), lm="lm-1")
