"""Mixing LMs: the merged model against the weighted sum, the weights against a brute-force search, the stage."""

import itertools
import json
import logging
import random
from pathlib import Path

import kenlm
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hlas.errors import UserError
from hlas.lm import arpa, mixture, ngram
from hlas.lm.mix_stage import Params, run
from hlas.manifests.rows import Row, write_rows
from hlas.stage import Input, Stage

SENTENCES = {
    "left": ["a b c", "a b", "c a b d", "b b a", "a"],
    "right": ["b a", "e a b", "e e b a", "c e", "a b e"],
}
WEIGHTS = (0.3, 0.7)


def build(folder: Path, sentences: list[str], order: int) -> ngram.LmFiles:
    """An LM folder as the lm stage writes it."""
    folder.mkdir()
    try:
        programs = ngram.find_kenlm()
    except UserError as error:
        pytest.skip(f"lmplz is not here and cannot be built: {error}")
    (folder / "text").write_text("".join(f"{s}\n" for s in sentences))
    model = ngram.lm_file(folder, "arpa")
    ngram.count_ngrams(programs, folder / "text", model, order=order)
    ngram.build_binary(programs, model, ngram.lm_file(folder, "binary"))
    ngram.write_words(ngram.lm_file(folder, "unigrams"), ngram.read_words(model))
    return ngram.find_lm(folder)


@pytest.fixture(scope="module")
def lms(tmp_path_factory: pytest.TempPathFactory) -> list[ngram.LmFiles]:
    """A 3-gram and a 2-gram of partly different words."""
    folder = tmp_path_factory.mktemp("lms")
    return [build(folder / "left", SENTENCES["left"], 3), build(folder / "right", SENTENCES["right"], 2)]


def read(lms: list[ngram.LmFiles]) -> tuple[list[str], list[arpa.BackoffModel]]:
    numbers = arpa.number_words(lm.words() for lm in lms)
    return list(numbers), [arpa.read_arpa(lm.arpa, numbers) for lm in lms if lm.arpa]


def rows_of(ngrams: list[tuple[int, ...]]) -> arpa.Ids:
    return np.array(ngrams, np.int64)


def kenlm_log10(model: kenlm.Model, words: list[str]) -> tuple[float, bool]:
    """log10 p(last word | the words before it) by KenLM itself, and whether the last word is known to it."""
    state, after = kenlm.State(), kenlm.State()
    begins = words[0] == "<s>"
    (model.BeginSentenceWrite if begins else model.NullContextWrite)(state)
    score = 0.0
    for word in words[begins:]:
        score = model.BaseScore(state, word, after)
        state, after = after, kenlm.State()
    return score, words[-1] in model


def histories(words: list[str], longest: int) -> list[tuple[int, ...]]:
    """Every history that a sentence can have."""
    begin, inner = words.index("<s>"), [i for i, w in enumerate(words) if w not in ngram.SPECIAL]
    bare = [h for n in range(longest + 1) for h in itertools.product(inner, repeat=n)]
    return bare + [(begin, *h) for h in bare if len(h) < longest]


def test_probabilities_are_kenlms(lms: list[ngram.LmFiles]) -> None:
    words, models = read(lms)
    for lm, model in zip(lms, models, strict=True):
        reference = kenlm.Model(str(lm.arpa))
        ngrams = [(*h, w) for h in histories(words, 2) if h for w in range(len(words)) if w != words.index("<s>")]
        for length in (2, 3):
            own = [n for n in ngrams if len(n) == length]
            for row, log10_p in zip(own, model.log10_prob(rows_of(own)), strict=True):
                expected, known = kenlm_log10(reference, [words[i] for i in row])
                if known or words[row[-1]] == "<unk>":
                    assert log10_p == pytest.approx(expected, abs=1e-5), row
                else:
                    assert log10_p == -np.inf


def test_the_merged_model_holds_the_weighted_sum_and_is_a_distribution(
    lms: list[ngram.LmFiles], tmp_path: Path
) -> None:
    words, models = read(lms)
    merged = mixture.merge(models, WEIGHTS, words)
    arpa.write_arpa(tmp_path / "lm.arpa", merged, words)
    written = kenlm.Model(str(tmp_path / "lm.arpa"))
    assert written.order == 3 == len(merged.orders)
    exact = 0
    for history in histories(words, 2):
        following = [(*history, w) for w in range(len(words)) if w != words.index("<s>")]
        rows = rows_of(following)
        total = sum(w * 10 ** m.log10_prob(rows) for w, m in zip(WEIGHTS, models, strict=True))
        p = 10 ** merged.log10_prob(rows)
        assert total.sum() == pytest.approx(1, abs=1e-5) and p.sum() == pytest.approx(1, abs=1e-5)
        listed = merged.find(rows) != arpa.ABSENT
        assert p[listed] == pytest.approx(total[listed], abs=1e-7)
        exact += int(listed.sum())
        by_kenlm = [10 ** kenlm_log10(written, [words[i] for i in row])[0] for row in following]
        assert by_kenlm == pytest.approx(p, abs=1e-6)
    assert exact >= sum(len(ngrams.keys) for ngrams in merged.orders) - 1  # all but <s> itself
    # a history that neither model knows leaves the sum of the unigrams, which is listed
    assert not (merged.find(rows_of([(words.index("e"), words.index("d"))])) != arpa.ABSENT).any()


def test_a_mixture_with_itself_is_itself(lms: list[ngram.LmFiles]) -> None:
    words, models = read(lms[:1])
    merged = mixture.merge([models[0], models[0]], (0.4, 0.6), words)
    for before, after in zip(models[0].orders, merged.orders, strict=True):
        assert (before.keys == after.keys).all()
        begins = before.rows[:, -1] == words.index("<s>")
        assert after.log10_p[~begins] == pytest.approx(before.log10_p[~begins], abs=1e-6)
        assert after.backoff == pytest.approx(before.backoff, abs=1e-5)


@given(st.lists(st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)), min_size=1, max_size=20))
@example([(0.220703125, 0.2202621848846713)])  # two models that hardly differ: EM creeps
def test_no_other_weights_are_likelier(rows: list[tuple[float, float]]) -> None:
    p = np.array(rows)
    found = mixture.estimate_weights(p)
    assert sum(found.weights) == pytest.approx(1)
    # after n rounds from equal weights EM is at most log(2) / n from the best, in log probability a token
    most = np.exp(np.log(2) / mixture.MAX_ROUNDS)
    for share in np.linspace(0, 1, 101):
        other = mixture.weigh(p, (share, 1 - share)).perplexity
        assert found.perplexity is not None and other is not None and found.perplexity <= other * most


def test_tokens_that_no_model_knows_are_left_out(lms: list[ngram.LmFiles]) -> None:
    p = mixture.token_probabilities([lm.model for lm in lms], ["d e x"])
    assert p.shape == (3, 2)  # d, e and the sentence's end
    assert (p[0] > 0).tolist() == [True, False] and (p[1] > 0).tolist() == [False, True]


def test_a_missing_beginning_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(
        "\\data\\\nngram 1=4\nngram 2=1\nngram 3=1\n\n\\1-grams:\n-1\t<unk>\t0\n0\t<s>\t0\n-1\t</s>\t0\n-1\ta\t0\n\n"
        "\\2-grams:\n-1\ta </s>\t0\n\n\\3-grams:\n-1\t<s> a a\n\n\\end\\\n"
    )
    with pytest.raises(UserError, match="'<s> a a' is there and its beginning is not"):
        arpa.read_arpa(path, arpa.number_words([["a"]]))
    path.write_text("no model")
    with pytest.raises(UserError, match="not a whole ARPA file"):
        arpa.read_arpa(path, {})


# --- the stage


def stage_of(folder: Path, dev: Path, *lms: ngram.LmFiles) -> Stage:
    folder.mkdir(exist_ok=True)
    return Stage(
        recipe="test",
        name="mixed",
        kind="lm_mix",
        folder=folder,
        inputs={"lms": tuple(Input(lm.model.parent, lm.model.parent.name) for lm in lms), "dev": (Input(dev),)},
        language=None,
        log=logging.getLogger("hlas"),
        workers=1,
    )


def dev_manifest(path: Path, *sentences: str) -> Path:
    write_rows(path, [Row(f"{i}.wav", 1.0, s) for i, s in enumerate(sentences)])
    return path


def test_stage(tmp_path: Path, lms: list[ngram.LmFiles], caplog: pytest.LogCaptureFixture) -> None:
    dev = dev_manifest(tmp_path / "dev.jsonl", "e a b", "a b c", "c e x")
    folder = tmp_path / "mixed"
    with caplog.at_level(logging.INFO, "hlas"):
        summary = run(Params(), stage_of(folder, dev, *lms))
    assert sorted(p.name for p in folder.iterdir()) == ["lm.arpa", "lm.bin", "lm.json", "unigrams.txt"]
    found = ngram.find_lm(folder)
    assert found.words() == ["a", "b", "c", "d", "e"] and found.unit == "word"
    weights = [part["weight"] for part in summary["parts"]]
    assert sum(weights) == pytest.approx(1, abs=1e-5) and 0 < weights[0] < 1
    assert summary["weights_from"] == "EM on dev" and summary["dev"]["oov_words"] == 1
    # the static model comes near to the sum, and both know more words than either part
    assert summary["dev"]["perplexity"] == pytest.approx(summary["linear_perplexity"], rel=0.1)
    assert [part["oov_words"] for part in summary["parts"]] == [3, 1]
    assert "left: weight" in caplog.text and "mixture: dev: perplexity" in caplog.text
    fixed = run(Params(weights=(0.0, 1.0)), stage_of(tmp_path / "fixed", dev, *lms))
    assert fixed["weights_from"] == "given" and "left has a weight of 0.0000: leave it out" in caplog.text


def test_the_mixture_is_better_than_its_parts(tmp_path: Path) -> None:
    rng = random.Random(0)
    vocabulary = list("abcdefgh")

    def text(count: int, favoured: list[str]) -> list[str]:
        return [" ".join(rng.choices(favoured * 6 + vocabulary, k=6)) for _ in range(count)]

    left = build(tmp_path / "left", text(300, ["a", "b"]), 3)
    right = build(tmp_path / "right", text(300, ["c", "d"]), 3)
    dev = dev_manifest(tmp_path / "dev.jsonl", *text(20, ["a", "b"]), *text(60, ["c", "d"]))
    summary = run(Params(), stage_of(tmp_path / "mixed", dev, left, right))
    assert summary["dev"]["perplexity"] < min(part["perplexity"] for part in summary["parts"])
    # every model knows every word here
    for part in summary["parts"]:
        assert part["shared_perplexity"] == pytest.approx(part["perplexity"], rel=1e-4)
    assert summary["shared_perplexity"] == pytest.approx(summary["linear_perplexity"])
    assert summary["dev"]["perplexity"] == pytest.approx(summary["linear_perplexity"], rel=0.03)


def test_what_cannot_be_mixed_is_refused(tmp_path: Path, lms: list[ngram.LmFiles]) -> None:
    dev = dev_manifest(tmp_path / "dev.jsonl", "a b")
    with pytest.raises(UserError, match="names a test split"):
        run(Params(), stage_of(tmp_path / "m", dev_manifest(tmp_path / "test.jsonl", "a"), *lms))
    with pytest.raises(UserError, match="one LM is no mixture"):
        run(Params(), stage_of(tmp_path / "m", dev, lms[0]))
    with pytest.raises(UserError, match="3 weights for 2 LMs"):
        run(Params(weights=(0.2, 0.3, 0.5)), stage_of(tmp_path / "m", dev, *lms))
    tokens = build(tmp_path / "tokens", ["d e f"], 2)
    ngram.describe(tmp_path / "tokens", order=2, unit="token", tokens=("a", "b"))
    tokens = ngram.find_lm(tmp_path / "tokens")
    with pytest.raises(UserError, match="of other tokens than 'left', which is of words"):
        run(Params(), stage_of(tmp_path / "m", dev, lms[0], tokens))
    (tmp_path / "tokens" / "lm.arpa").unlink()
    (tmp_path / "tokens" / "lm.json").write_text(json.dumps({"unit": "word"}))
    with pytest.raises(UserError, match=r"no lm\.arpa"):
        run(Params(), stage_of(tmp_path / "m", dev, lms[0], ngram.find_lm(tmp_path / "tokens")))


@pytest.mark.parametrize("wrong", [{"weights": (0.5, 0.6)}, {"weights": (1.5, -0.5)}, {"quantise_bits": 1}])
def test_impossible_parameters_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"weights|quantise_bits"):
        Params(**wrong)  # type: ignore[arg-type]  # a wrong value is the point
