"""LM text and n-gram models: what goes in, what is kept out, and that the model is a probability distribution."""

import itertools
import logging
import os
import random
import subprocess
from pathlib import Path

import kenlm
import pytest
import sentencepiece

from hlas.errors import UserError
from hlas.files import write_json
from hlas.lm import ngram
from hlas.lm.fit import measure_fit
from hlas.lm.stage import Params, run
from hlas.lm.token_text import encode_file, encode_sentences, labels_of
from hlas.manifests.rows import Row, write_rows
from hlas.manifests.text import Language
from hlas.paths import project_root
from hlas.stage import Input, Stage
from hlas.tokenizers.spm import train_sentencepiece

LANGUAGE = Language("xx", "Test", tuple("abcdefghijklmnopqrstuvwxyzäöü'"), apostrophe="inner")
INSTALL = project_root() / "tools" / "install_kenlm.sh"


@pytest.fixture(scope="session")
def programs() -> ngram.Kenlm:
    """KenLM's programs, built if they are not here."""
    try:
        return ngram.find_kenlm()
    except UserError as error:
        pytest.skip(f"lmplz is not here and cannot be built: {error}")


def manifest(path: Path, *sentences: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_rows(path, [Row(f"{i}.wav", 1.0, s) for i, s in enumerate(sentences)])
    return path


def run_stage(folder: Path, params: Params, workers: int = 1, **inputs: tuple[Input, ...]) -> dict[str, object]:
    folder.mkdir()
    stage = Stage(
        recipe="test",
        name="lm",
        kind="lm",
        folder=folder,
        inputs=inputs,
        language=LANGUAGE,
        log=logging.getLogger("hlas"),
        workers=workers,
    )
    return run(params, stage)


# --- the stage


def test_stage_keeps_dev_and_test_out(tmp_path: Path, programs: ngram.Kenlm, caplog: pytest.LogCaptureFixture) -> None:
    corpus = tmp_path / "manifests"
    train = manifest(corpus / "train.jsonl", "the cat sat", "the dog sat", "the cat sat", "a secret of test")
    manifest(corpus / "dev.jsonl", "the cow ran off")
    manifest(corpus / "test.jsonl", "a secret of test")
    outside = tmp_path / "more.txt"
    outside.write_text("The cow ran off!\nA cow ran.\nкорова\n", encoding="utf-8")
    folder = tmp_path / "lm"
    with caplog.at_level(logging.INFO, "hlas"):
        summary = run_stage(
            folder, Params(order=3), text=(Input(train, "manifests", "train"), Input(outside)), workers=2
        )
    assert sorted(p.name for p in folder.iterdir()) == ["lm.arpa", "lm.bin", "lm.json", "unigrams.txt"]
    assert (folder / "unigrams.txt").read_text() == "a\ncat\ncow\ndog\nran\nsat\nthe\n"
    assert summary["counts"] == {
        "read": 7,
        "sentences": 3,
        "words": 9,
        "types": 7,
        "in_dev_or_test": 2,
        "duplicates": 1,
        "rejected": 1,
    }
    assert summary["held_out"] == ["dev", "test"]
    assert "more.txt: kept 1 of 3 sentences: in dev or test 1, duplicates 0, foreign_letter 1" in caplog.text
    assert summary["fallback_orders"] and "too little text" in caplog.text
    dev = summary["dev"]
    assert (dev["words"], dev["oov_words"], dev["oov_rate"]) == (4, 1, 0.25)
    assert dev["perplexity"] > 1
    model = kenlm.Model(str(folder / "lm.bin"))
    assert model.order == 3 and model.score("a cow ran") > model.score("ran cow a")


def test_exclude_overrules_the_siblings(tmp_path: Path, programs: ngram.Kenlm) -> None:
    train = manifest(tmp_path / "m" / "train.jsonl", "a b", "c d")
    manifest(tmp_path / "m" / "dev.jsonl", "a b")
    other = manifest(tmp_path / "other.jsonl", "c d")
    summary = run_stage(
        tmp_path / "lm", Params(order=2), text=(Input(train, "manifests", "train"),), exclude=(Input(other),)
    )
    assert (tmp_path / "lm" / "unigrams.txt").read_text() == "a\nb\n"
    assert summary["held_out"] == ["other"]


def test_dev_as_text_is_refused(tmp_path: Path) -> None:
    dev = manifest(tmp_path / "m" / "dev.jsonl", "a b")
    with pytest.raises(UserError, match="kept out of it at once"):
        run_stage(tmp_path / "lm", Params(), text=(Input(dev, "manifests", "dev"),))


def test_text_without_a_sentence_is_refused(tmp_path: Path, programs: ngram.Kenlm) -> None:
    source = tmp_path / "text.txt"
    source.write_text("дом\n", encoding="utf-8")
    with pytest.raises(UserError, match="no sentence is left") as error:
        run_stage(tmp_path / "lm", Params(), text=(Input(source),))
    assert "foreign_letter 1" in error.value.fix
    assert list((tmp_path / "lm").iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": 1},
        {"order": 7},
        {"order": 2, "prune": (0, 0, 1)},
        {"prune": (1, 0)},
        {"vocabulary_limit": 0},
        {"unit": "token", "vocabulary_limit": 10},
        {"quantise_bits": 1},
        {"binary": "probing", "quantise_bits": 8},
    ],
)
def test_impossible_specs_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"order|prune|vocabulary_limit|quantise_bits"):
        Params(**wrong)  # type: ignore[arg-type]  # a wrong value is the point


def test_a_limited_vocabulary(tmp_path: Path, programs: ngram.Kenlm) -> None:
    train = manifest(tmp_path / "m" / "train.jsonl", "a b", "a c", "a b d", "b a")
    manifest(tmp_path / "m" / "dev.jsonl", "a d")
    summary = run_stage(
        tmp_path / "lm", Params(order=2, vocabulary_limit=2), text=(Input(train, "manifests", "train"),)
    )
    assert (tmp_path / "lm" / "unigrams.txt").read_text() == "a\nb\n"
    assert summary["counts"]["types"] == 2 and summary["dev"]["oov_words"] == 1
    model = kenlm.Model(str(tmp_path / "lm" / "lm.bin"))
    words = ["a", "b", "</s>", "<unk>"]
    state = kenlm.State()
    model.BeginSentenceWrite(state)
    assert sum(10 ** model.BaseScore(state, word, kenlm.State()) for word in words) == pytest.approx(1, abs=1e-4)


# --- tokens


def char_tokenizer(folder: Path, tokens: tuple[str, ...]) -> Path:
    folder.mkdir()
    write_json(folder / "vocabulary.json", {"unit": "char", "type": "char", "tokens": tokens})
    return folder


def test_a_token_lm_of_characters(tmp_path: Path, programs: ngram.Kenlm) -> None:
    tokens = (" ", *"abcdeh")
    tokenizer = char_tokenizer(tmp_path / "tokenizer", tokens)
    train = manifest(tmp_path / "m" / "train.jsonl", "a bad head", "a bed", "zzz", "bad bed")
    manifest(tmp_path / "m" / "dev.jsonl", "a bad bed")
    summary = run_stage(
        tmp_path / "lm",
        Params(order=3, unit="token"),
        text=(Input(train, "manifests", "train"),),
        tokenizer=(Input(tokenizer, "tokenizer"),),
    )
    assert summary["rejected"] == {"no_token": 1} and summary["counts"]["sentences"] == 3
    found = ngram.find_lm(tmp_path / "lm")
    assert (found.unit, found.tokens) == ("token", tokens)
    assert sorted(found.words()) == sorted(chr(100 + i) for i, t in enumerate(tokens) if t != "c")
    dev = summary["dev"]
    assert (dev["words"], dev["oov_words"]) == (9, 0)  # tokens: the spaces among them
    model = kenlm.Model(str(found.model))
    encoded = " ".join(chr(100 + tokens.index(c)) for c in "a bad bed")
    assert dev["perplexity"] == pytest.approx(model.perplexity(encoded), rel=1e-5)


def test_a_token_lm_of_pieces(tmp_path: Path, programs: ngram.Kenlm) -> None:
    sentences = ["the cat sat", "the dog sat", "a cat and a dog", "that cat sat and sat"]
    labels = tmp_path / "tokenizer"
    labels.mkdir()
    pieces = train_sentencepiece(sentences, "bpe", 30, labels)
    write_json(labels / "vocabulary.json", {"unit": "bpe", "type": "bpe", "tokens": pieces})
    train = manifest(tmp_path / "m" / "train.jsonl", *sentences, "zebra")
    summary = run_stage(
        tmp_path / "lm",
        Params(order=2, unit="token"),
        text=(Input(train, "manifests", "train"),),
        tokenizer=(Input(labels, "tokenizer"),),
    )
    assert summary["rejected"] == {"no_token": 1}
    processor = sentencepiece.SentencePieceProcessor(model_file=str(labels / "tokenizer.model"))
    expected = {chr(100 + i) for sentence in sentences for i in processor.encode(sentence)}
    assert set(ngram.find_lm(tmp_path / "lm").words()) == expected


def test_tokens_that_look_like_spaces_stay(tmp_path: Path, programs: ngram.Kenlm) -> None:
    """Tokens 33 and 60 are U+0085 and U+00A0 in NeMo's encoding, which Python takes for white space."""
    tokens = tuple(chr(0x4E00 + i) for i in range(70))
    labels = labels_of(char_tokenizer(tmp_path / "tokenizer", tokens))
    (tmp_path / "text").write_text("".join(tokens) + "\n" + "".join(reversed(tokens)) + "\n", encoding="utf-8")
    for workers in (1, 2):
        assert encode_file(tmp_path / "text", tmp_path / "encoded", labels, workers) == 0
    ngram.count_ngrams(programs, tmp_path / "encoded", tmp_path / "lm.arpa", order=2)
    ngram.write_words(tmp_path / "unigrams.txt", ngram.read_words(tmp_path / "lm.arpa"))
    assert sorted(ngram.find_lm(tmp_path).words()) == sorted(chr(100 + i) for i in range(70))
    assert measure_fit(tmp_path / "lm.arpa", encode_sentences(["".join(tokens)], labels)).oov_words == 0


def test_unit_and_tokenizer_belong_together(tmp_path: Path) -> None:
    text = (Input(manifest(tmp_path / "m" / "train.jsonl", "a"), "manifests", "train"),)
    tokenizer = (Input(char_tokenizer(tmp_path / "tokenizer", ("a",)), "tokenizer"),)
    with pytest.raises(UserError, match="no tokenizer says what the tokens are"):
        run_stage(tmp_path / "lm1", Params(unit="token"), text=text)
    with pytest.raises(UserError, match="an LM of words has no use for it"):
        run_stage(tmp_path / "lm2", Params(), text=text, tokenizer=tokenizer)


# --- KenLM


def test_lmplz_args() -> None:
    args = ngram.lmplz_args(order=3, text=Path("t"), arpa=Path("a"), temp=Path("tmp"), prune=(0, 1))
    assert " ".join(args) == "-o 3 -S 1G -T tmp --text t --arpa a --prune 0 1 --discount_fallback"
    limited = ngram.lmplz_args(order=2, text=Path("t"), arpa=Path("a"), temp=Path("tmp"), only_words=Path("w"))
    assert limited[-2:] == ["--limit_vocab_file", "w"]
    quantised = ngram.binary_args("trie", Path("a"), Path("b"), Path("tmp"), 8)
    assert " ".join(quantised) == "-S 1G -T tmp -q 8 -b 8 trie a b"
    assert "--prune" not in ngram.lmplz_args(order=3, text=Path("t"), arpa=Path("a"), temp=Path("tmp"))


@pytest.mark.parametrize("structure", ["trie", "probing"])
def test_the_model_is_a_distribution(tmp_path: Path, programs: ngram.Kenlm, structure: str) -> None:
    sentences = tmp_path / "sentences"
    sentences.write_text("a b c\na b\nb c a\nc c b a\na\n")
    arpa, binary = tmp_path / "lm.arpa", tmp_path / "lm.bin"
    counted = ngram.count_ngrams(programs, sentences, arpa, order=3)
    ngram.build_binary(programs, arpa, binary, structure)
    words = ngram.read_words(arpa)
    assert words == ["a", "b", "c"] and counted.ngrams[0] == len(words) + len(ngram.SPECIAL)
    model = kenlm.Model(str(binary))
    for length in range(3):
        for history in itertools.product(words, repeat=length):
            state, after = kenlm.State(), kenlm.State()
            model.BeginSentenceWrite(state)
            for word in history:
                model.BaseScore(state, word, after)
                state, after = after, kenlm.State()
            total = sum(10 ** model.BaseScore(state, word, kenlm.State()) for word in [*words, "</s>", "<unk>"])
            assert total == pytest.approx(1, abs=1e-4), history


def test_a_quantised_model_is_smaller_and_near(tmp_path: Path, programs: ngram.Kenlm) -> None:
    rng = random.Random(0)
    words = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"]
    (tmp_path / "text").write_text("".join(" ".join(rng.choices(words, k=8)) + "\n" for _ in range(2000)))
    ngram.count_ngrams(programs, tmp_path / "text", tmp_path / "lm.arpa", order=3)
    models = {}
    for bits in (None, 8):
        ngram.build_binary(programs, tmp_path / "lm.arpa", tmp_path / f"{bits}.bin", "trie", bits)
        models[bits] = kenlm.Model(str(tmp_path / f"{bits}.bin"))
    assert (tmp_path / "8.bin").stat().st_size < 0.8 * (tmp_path / "None.bin").stat().st_size
    assert models[8].score("aa bb cc dd") == pytest.approx(models[None].score("aa bb cc dd"), rel=0.02)


def test_one_word_of_text_is_enough(tmp_path: Path, programs: ngram.Kenlm) -> None:
    (tmp_path / "sentences").write_text("hallo\n")
    counted = ngram.count_ngrams(programs, tmp_path / "sentences", tmp_path / "lm.arpa", order=4)
    assert counted.ngrams == (4, 2, 1, 0) and counted.fallback_orders == (1, 2, 3, 4)


def test_lmplz_says_why_it_failed(tmp_path: Path, programs: ngram.Kenlm) -> None:
    (tmp_path / "sentences").write_text("a b\n")
    with pytest.raises(UserError, match="Could not calculate Kneser-Ney discounts") as error:
        ngram.count_ngrams(programs, tmp_path / "sentences", tmp_path / "lm.arpa", order=2, discount_fallback=False)
    assert "discount_fallback: true" in error.value.fix
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sentences"]


def test_pruning_drops_what_was_seen_once(tmp_path: Path, programs: ngram.Kenlm) -> None:
    (tmp_path / "sentences").write_text("a b c\na b d\n")
    whole = ngram.count_ngrams(programs, tmp_path / "sentences", tmp_path / "lm.arpa", order=3)
    pruned = ngram.count_ngrams(programs, tmp_path / "sentences", tmp_path / "lm.arpa", order=3, prune=(0, 0, 1))
    assert pruned.ngrams[:2] == whole.ngrams[:2] and 0 < pruned.ngrams[2] < whole.ngrams[2]


def test_fit_by_hand(tmp_path: Path) -> None:
    arpa = tmp_path / "lm.arpa"
    arpa.write_text(
        "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-2\t<unk>\t0\n0\t<s>\t-0.5\n-1\t</s>\t0\n-0.5\ta\t0\n\n"
        "\\2-grams:\n-0.25\t<s> a\n\n\\end\\\n"
    )
    fit = measure_fit(arpa, ["a a", "a x"])
    # a|<s> .25, a .5, </s> 1; a|<s> .25, x unknown, </s> 1: five known tokens
    assert (fit.sentences, fit.words, fit.oov_words) == (2, 4, 1)
    assert fit.perplexity == pytest.approx(10 ** ((0.25 + 0.5 + 1 + 0.25 + 1) / 5))
    assert measure_fit(arpa, []).perplexity is None


def test_an_lm_folder_may_hold_only_the_arpa(tmp_path: Path) -> None:
    (tmp_path / "unigrams.txt").write_text("a\r\nb")
    with pytest.raises(UserError, match=r"no lm\.bin and no lm\.arpa"):
        ngram.find_lm(tmp_path)
    (tmp_path / "lm.arpa").write_text("")
    found = ngram.find_lm(tmp_path)
    assert found.model.name == "lm.arpa" and found.words() == ["a", "b"]


def test_the_users_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lmplz", "build_binary"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("HLAS_KENLM", str(tmp_path))
    assert ngram.find_kenlm().lmplz == tmp_path / "bin" / "lmplz"
    monkeypatch.delenv("HLAS_KENLM")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    assert ngram.find_kenlm().build_binary == tmp_path / "bin" / "build_binary"


def test_a_build_that_fails_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HLAS_KENLM", str(tmp_path / "kenlm"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"no C\+\+ compiler"):
        ngram.find_kenlm()


# --- tools/install_kenlm.sh


def install(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(INSTALL)], env=os.environ | environment, capture_output=True, text=True)


def test_installing_spares_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    done = install(HLAS_KENLM=str(tmp_path))
    assert done.returncode == 2 and "holds something else" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_without_a_compiler_the_ways_out_are_named(tmp_path: Path) -> None:
    done = install(HLAS_KENLM=str(tmp_path / "kenlm"), CXX="no-such-compiler")
    assert done.returncode == 2 and not (tmp_path / "kenlm").exists()
    for word in ("apt-get install", "dnf install", "brew install", "conda install", "no C++ compiler"):
        assert word in done.stderr


def test_an_installed_kenlm_is_not_built_again(programs: ngram.Kenlm) -> None:
    folder = programs.lmplz.parents[1]
    if not (folder / "made_by.txt").is_file():
        pytest.skip("these programs were not made by tools/install_kenlm.sh")
    before = programs.lmplz.stat().st_mtime_ns
    done = install(HLAS_KENLM=str(folder))
    assert done.returncode == 0 and programs.lmplz.stat().st_mtime_ns == before
