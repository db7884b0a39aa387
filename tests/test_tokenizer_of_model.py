"""Labels taken from a model: a training that starts from it keeps its decoder; what holds no labels is refused."""

import io
import logging
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from hlas.errors import UserError, UserErrors
from hlas.manifests.rows import Row, write_rows
from hlas.models.nemo_ctc import CtcModel
from hlas.recipe import load_recipe
from hlas.stage import Input, Stage, Summary
from hlas.tokenizers import stage as tokenizer_stage
from hlas.tokenizers.of_model import CONFIG, MOST_BYTES, take_labels
from hlas.tokenizers.spm import train_sentencepiece
from hlas.tokenizers.stage import Params, read_labels
from train_kit import Lab, params

OF_MODEL = Params("of_model")
TEXTS = ("ab ca", "ba", "c ab", "bca a", "cab ba", "a b c")


def archive(path: Path, config: Any, files: Mapping[str, bytes] | None = None) -> Path:
    """A .nemo file with that config (a text is taken as it is) and those files, and something in place of weights."""
    text = config if isinstance(config, str) else yaml.safe_dump(config, allow_unicode=True)
    with tarfile.open(path, "w") as tar:
        for name, data in {CONFIG: text.encode(), **(files or {}), "model_weights.ckpt": bytes(50_000)}.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SentencePiece model."""
    folder = tmp_path_factory.mktemp("pieces")
    train_sentencepiece(TEXTS, "bpe", 9, folder)
    return folder


def taken(lab: Lab, name: str, model: Path, texts: list[Input] | None = None) -> tuple[Input, Summary]:
    stage = lab.stage(name, model=Input(model), **({"text": texts} if texts else {}))
    return Input(stage.folder, "tokenizer"), tokenizer_stage.run(OF_MODEL, stage)


@pytest.mark.parametrize("trained", [Params("bpe", vocab_size=9), Params("char")])
def test_a_training_with_a_models_labels_keeps_its_decoder(lab: Lab, trained: Params) -> None:
    first = lab.tokenizer(trained)
    assert lab.train(f"train-{trained.type}", params(epochs=1), first)["decoder"] == "new"
    model = lab.store / f"train-{trained.type}" / "model.nemo"
    same, summary = taken(lab, f"tokenizer-of-{trained.type}", model, [lab.split("train")])
    labels = read_labels(same.path)
    assert (labels.tokens, labels.unit) == (read_labels(first.path).tokens, read_labels(first.path).unit)
    assert summary == {
        "type": "of_model",
        "labels": len(labels.tokens),
        "transcripts": 8,
        "unit": "char" if trained.type == "char" else "bpe",
        "no_label": 0,
        "without_label": "",
    }
    for file in ("tokenizer.model", "tokenizer.vocab", "vocab.txt"):
        assert (same.path / file).exists() == (trained.type == "bpe")
        if trained.type == "bpe":
            assert (same.path / file).read_bytes() == (first.path / file).read_bytes()
    tuned = lab.train(f"tuned-{trained.type}", params(epochs=1), same, init=model)
    assert tuned["decoder"] == "kept"
    assert CtcModel.load(lab.store / f"tuned-{trained.type}" / "model.nemo", "cpu").vocabulary.tokens == labels.tokens
    other = lab.tokenizer(Params("unigram", vocab_size=9))  # as many as the byte pairs', but others
    assert lab.train(f"other-{trained.type}", params(epochs=1), other, init=model)["decoder"] == "new"


def test_a_name_is_looked_up_as_the_train_stage_does(
    lab: Lab, pieces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    cached = tmp_path / "models--nvidia--some" / "snapshots" / "0123" / "some.nemo"
    cached.parent.mkdir(parents=True)
    (tmp_path / "models--nvidia--some" / "refs").mkdir()
    (tmp_path / "models--nvidia--some" / "refs" / "main").write_text("0123", encoding="utf-8")
    sentencepiece = {"dir": "/data", "type": "bpe", "model_path": "nemo:x_tokenizer.model"}
    archive(cached, {"tokenizer": sentencepiece}, {"x_tokenizer.model": (pieces / "tokenizer.model").read_bytes()})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    stage = lab.stage("tokenizer-of-name")
    assert tokenizer_stage.run(Params("of_model", pretrained="nvidia/some"), stage)["labels"] == 9
    with pytest.raises(UserError, match="neither in NeMo's cache nor to be fetched"):
        tokenizer_stage.run(Params("of_model", pretrained="nvidia/other"), stage)


def test_the_files_of_other_versions_of_nemo_are_found(pieces: Path, tmp_path: Path) -> None:
    model = (pieces / "tokenizer.model").read_bytes()
    expected = tuple((pieces / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1])
    early = archive(tmp_path / "early.nemo", {"tokenizer": {"dir": "/a/b", "type": "BPE"}}, {"tokenizer.model": model})
    assert take_labels(early, tmp_path, "x") == (("<unk>", *expected), "bpe")
    path = {"type": "bpe", "model_path": "/home/a/tokenizer.model"}
    named = archive(tmp_path / "named.nemo", {"tokenizer": path}, {"tokenizer.model": model})
    packed = tmp_path / "packed.nemo"
    with tarfile.open(packed, "w:gz") as tar, tarfile.open(named) as plain:
        for member in plain:
            tar.addfile(member, plain.extractfile(member))
    assert take_labels(packed, tmp_path, "x") == (("<unk>", *expected), "bpe")
    decoder = archive(tmp_path / "decoder.nemo", {"decoder": {"vocabulary": [" ", "n", "ё"]}, "labels": ["x"]})
    assert take_labels(decoder, tmp_path, "x") == ((" ", "n", "ё"), "char")
    transducer = archive(tmp_path / "transducer.nemo", {"decoder": {"vocab_size": 2}, "labels": [" ", "y"]})
    assert take_labels(transducer, tmp_path, "x") == ((" ", "y"), "char")


@pytest.mark.parametrize(
    ("config", "files", "problem"),
    [
        ({"decoder": {"vocabulary": []}}, {}, "names neither a tokenizer nor labels"),
        ({"labels": "${model.labels}"}, {}, "names neither a tokenizer nor labels"),
        ({"decoder": {"vocabulary": [" ", True]}}, {}, "names neither a tokenizer nor labels"),
        ("labels: [a", {}, "its model_config.yaml is no YAML: "),
        ("!!python/object/apply:os.getcwd []", {}, "its model_config.yaml is no YAML: could not determine"),
        ("- a", {}, "its model_config.yaml holds no settings"),
        ({"tokenizer": {"type": "wpe", "vocab_path": "nemo:v"}}, {}, "not SentencePiece's, but WordPiece"),
        ({"tokenizer": {"type": "agg", "langs": {}}}, {}, "not SentencePiece's, but several in one"),
        ({"tokenizer": {"type": "bpe", "custom_tokenizer": {"_target_": "x.Y"}}}, {}, "but a class of its own"),
        ({"tokenizer": {"type": "bpe", "model_path": "nemo:t.model"}}, {}, r"holds no file t\.model"),
        ({"tokenizer": {"type": "bpe", "model_path": "../../t.model"}}, {"../../t.model": b"x"}, "no file t.model"),
        ({"tokenizer": {"type": "bpe"}}, {"tokenizer.model": b"pieces"}, "its tokenizer is damaged"),
        ({"tokenizer": {"type": "bpe"}}, {"tokenizer.model": b""}, "its tokenizer is damaged"),
        ({"tokenizer": {"type": "bpe"}}, {"tokenizer.model": bytes(MOST_BYTES + 1)}, "tokenizer.model has 64 MiB"),
    ],
)
def test_a_model_whose_labels_cannot_be_taken_is_refused(
    config: Any, files: dict[str, bytes], problem: str, tmp_path: Path
) -> None:
    path = archive(tmp_path / "model.nemo", config, files)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UserError, match=problem) as raised:
        take_labels(path, out, "tokenizer.model: x")
    assert raised.value.where == "tokenizer.model: x"
    assert raised.value.fix
    assert not list(out.iterdir())


def test_a_link_of_a_foreign_archive_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("labels: [a, b]", encoding="utf-8")
    path = tmp_path / "model.nemo"
    for kind, target in ((tarfile.SYMTYPE, str(secret)), (tarfile.LNKTYPE, "other.yaml")):
        with tarfile.open(path, "w") as tar:
            other = tarfile.TarInfo("other.yaml")
            other.size = secret.stat().st_size
            tar.addfile(other, io.BytesIO(secret.read_bytes()))
            link = tarfile.TarInfo(CONFIG)
            link.type, link.linkname = kind, target
            tar.addfile(link)
        with pytest.raises(UserError, match=r"holds no file model_config\.yaml"):
            take_labels(path, tmp_path, "x")


def test_a_file_that_is_broken_or_none_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.nemo", {"labels": ["a"]})
    whole = path.read_bytes()
    for size in (len(whole) // 2, 700):  # within the weights, within the config
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="cannot be read to its end"):
            take_labels(path, tmp_path, "x")
    path.write_bytes(b"no archive" * 200)
    with pytest.raises(UserError, match=r"no tar archive, and so no \.nemo file"):
        take_labels(path, tmp_path, "x")
    with pytest.raises(UserError, match="no such model file"):
        take_labels(tmp_path / "none.nemo", tmp_path, "x")
    with pytest.raises(UserError, match="is a folder"):
        take_labels(tmp_path, tmp_path, "x")


def stage_with_texts(tmp_path: Path, model: Path, texts: list[str]) -> Stage:
    write_rows(tmp_path / "train.jsonl", [Row(f"{i}.wav", 1.0, text) for i, text in enumerate(texts)])
    (tmp_path / "out").mkdir(exist_ok=True)
    inputs = {"model": (Input(model),), "text": (Input(tmp_path / "train.jsonl"),)}
    return Stage("tokenizer", "tokenizer", tmp_path / "out", inputs, None, logging.getLogger("hlas"), workers=1)


@pytest.mark.parametrize("unit", ["char", "bpe"])
def test_texts_that_the_labels_cannot_spell_are_counted(
    unit: str, pieces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"tokenizer": {"type": "bpe"}} if unit == "bpe" else {"labels": [" ", "a", "b", "c"]}
    files = {"tokenizer.model": (pieces / "tokenizer.model").read_bytes()}
    model = archive(tmp_path / "model.nemo", config, files if unit == "bpe" else {})
    summary = tokenizer_stage.run(OF_MODEL, stage_with_texts(tmp_path, model, ["ab ca", "ab ż", "cżxb", "b"]))
    assert (summary["transcripts"], summary["no_label"], summary["without_label"]) == (4, 2, "xż")
    assert "tokenizer: 2 of 4 transcripts have characters without a label: xż" in caplog.messages
    with pytest.raises(UserError, match=r"2 of 2 transcripts have .* xż(.|\n)*of this language"):
        tokenizer_stage.run(OF_MODEL, stage_with_texts(tmp_path, model, ["ab ż", "cżxb"]))


RECIPE = """
name: tuned
language: manifests/languages/hsb.yaml
stages:
  manifests: {spec: manifests/common_voice.yaml, release: ./release}
  tokenizer: {spec: tokenizers/char.yaml, text: manifests.train}
  train: {spec: models/quartznet_mini.yaml, train: manifests.train, dev: manifests.dev, tokenizer: tokenizer}
  kept: {uses: tokenizer, %s}
  tuned: {uses: train, spec: models/quartznet_mini.yaml, train: manifests.train, dev: manifests.dev, tokenizer: kept}
"""


@pytest.mark.parametrize(
    "given",
    [
        "spec: tokenizers/of_model.yaml, model: train",
        "spec: tokenizers/of_model.yaml, model: train.model, text: manifests.train",
        "spec: tokenizers/of_model.yaml, model: ./some.nemo",  # not there yet: a note
        "spec: tokenizers/of_model.yaml, pretrained: nvidia/stt_ru_conformer_ctc_large",
    ],
)
def test_a_recipe_names_a_model_in_one_of_three_ways(given: str, tmp_path: Path) -> None:
    path = tmp_path / "tuned.yaml"
    path.write_text(RECIPE % given, encoding="utf-8")
    assert load_recipe(path).stage("kept").params.type == "of_model"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("spec: tokenizers/of_model.yaml", "kept.model: no model to take the labels of"),
        ("spec: tokenizers/of_model.yaml, model: train, pretrained: nvidia/x", "the labels of two models: model train"),
        ("spec: tokenizers/of_model.yaml, model: ./README.md", "README.md is no tar archive, and so no .nemo file"),
        ("spec: tokenizers/of_model.yaml, model: manifests", "'manifests' is a manifests"),
        ("spec: tokenizers/of_model.yaml, model: train, vocab_size: 9", "an of_model tokenizer has no vocab_size"),
        ("spec: tokenizers/char.yaml", "kept.text: a char tokenizer needs it"),
        ("spec: tokenizers/char.yaml, text: manifests.train, model: train", "come from the text, not from a model"),
        (
            "spec: tokenizers/bpe_128.yaml, text: manifests.train, pretrained: nvidia/x",
            "pretrained: the labels of a bpe",
        ),
    ],
)
def test_what_a_recipe_cannot_mean_is_told_before_anything_runs(given: str, error: str, tmp_path: Path) -> None:
    path = tmp_path / "tuned.yaml"
    path.write_text(RECIPE % given, encoding="utf-8")
    with pytest.raises(UserErrors) as raised:
        load_recipe(path)
    (only,) = raised.value.errors
    assert error in str(only)
