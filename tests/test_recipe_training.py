"""Every model of the shipped recipes, and every CTC spec that none of them has, trains for two steps.

The training is the recipe's own, stage by stage, with its models, tokenizers, starts and frozen parts, on a language of
tones instead of a release. Where a Whisper is trained, its weights are random and it is small, but found and loaded as
OpenAI's are.
"""

import copy
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hlas.augment import stage as augment_stage
from hlas.augment.options import BabbleOptions, ColouredOptions, RoomOptions
from hlas.files import sha256_json
from hlas.manifests.rows import read_hypotheses
from hlas.manifests.text import load_language
from hlas.models import finetune_stage, train_stage, transcribe_stage
from hlas.models.whisper_sizes import SIZES, Size
from hlas.paths import project_root
from hlas.recipe import Recipe, StageSpec, load_recipe
from hlas.stage import Input
from hlas.stages import KINDS
from hlas.tokenizers import stage as tokenizer_stage
from hlas.yamls import read_extended
from recipe_kit import NAMES, RECIPES, source
from train_kit import Lab, curve, write_split, write_whisper
from whisper_kit import END, WIDTH

pytest_plugins = ("whisper_kit",)
TEXTS = {  # transcripts of the two languages that a transfer goes between: the second has a letter less
    "own": ["ab ca", "ba", "c ab", "bca a", "cab ba", "a b c", "abcab", "ca ba"],
    "other": ["ab ba", "baa", "a ab", "bba a", "bab ba", "a b a", "abbab", "ba ba"],
}
SUBWORDS = 9  # as many as the tones' transcripts can give
STEPS = 2
POSITIONS = 1500
TOY = "toy"  # a size of the tests' own, beside OpenAI's
OF_NO_RECIPE = """
name: of_no_recipe
language: manifests/languages/en.yaml
stages:
  manifests: {spec: manifests/common_voice.yaml, release: data/tones}
  tokenizer: {spec: tokenizers/TOKENIZER.yaml, text: manifests.train}
  train: {spec: models/SPEC.yaml, train: manifests.train, dev: manifests.dev, tokenizer: tokenizer}
"""
IN_NO_RECIPE = {  # CTC specs that none trains from scratch, and the tokenizers that they are made for
    "quartznet_10x5": "char",
    "jasper_10x5": "char",
    "citrinet_256": "bpe_128",
    "citrinet_1024": "bpe_128",
    "contextnet_s": "bpe_128",
    "conformer_ctc_l": "bpe_128",
    "fastconformer_ctc_s": "bpe_128",
    "fastconformer_ctc_l": "bpe_128",
}
TRAINED = {"train": train_stage, "finetune": finetune_stage}


@dataclass
class Workshop:
    """Trains the recipes' stages on tones, each training once however many recipes have it."""

    lab: Lab
    made: dict[str, Path] = field(default_factory=dict)  # key of a training -> its folder

    def train(self, recipe: Recipe, stage: StageSpec) -> Path:
        """The folder of the stage's training; what it starts from is trained before it."""
        given = toy(stage.params) if isinstance(stage.params, finetune_stage.Params) else tiny(stage.params)
        manifests = recipe.stage(source(stage, "train"))
        corpus = "own" if manifests.language == recipe.language else "other"
        inputs: dict[str, Input | list[Input]] = {split: self.split(corpus, split) for split in ("train", "dev")}
        released = self._released(stage)
        if "tokenizer" in stage.inputs:
            inputs["tokenizer"] = self._tokenizer(corpus, recipe.stage(source(stage, "tokenizer")).params, released)
        if released:
            given, inputs["init"] = replace(given, pretrained=""), Input(released, "start", "model")
        for name in {"noise", "rooms"} & set(stage.inputs):
            inputs[name] = Input(self._augment() / f"{name}.jsonl", "augment", name)
        if "init" in stage.inputs:
            start = self.train(recipe, recipe.stage(source(stage, "init")))
            inputs["init"] = Input(model_of(start, stage), "start", "model")
        key = sha256_json([stage.kind, asdict(given), {name: str(made) for name, made in sorted(inputs.items())}])
        if key not in self.made:
            work = replace(
                self.lab.stage(f"{stage.kind}-{key[:12]}", **inputs),
                language=load_language(stage.language) if stage.language else None,
            )
            summary = TRAINED[stage.kind].run(given, work)
            (work.folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
            self.made[key] = work.folder
        return self.made[key]

    def split(self, corpus: str, split: str) -> Input:
        """A manifest of tones in one of the two languages."""
        folder = self.lab.store / f"manifests-{corpus}"
        if not folder.exists():
            folder.mkdir()
            write_split(folder, "train", TEXTS[corpus])
            write_split(folder, "dev", TEXTS[corpus][:2])
        return Input(folder / f"{split}.jsonl", "manifests", split)

    def _released(self, stage: StageSpec) -> Path | None:
        """What stands in for the model of the hub that the stage starts from: its own spec, trained from scratch."""
        if not getattr(stage.params, "pretrained", ""):
            return None
        name = stage.params.name
        recipe = of_no_recipe(name, self.lab.store)
        return self.train(recipe, recipe.stage("train")) / "model.nemo"

    def _tokenizer(self, corpus: str, params: tokenizer_stage.Params, released: Path | None) -> Input:
        inputs: dict[str, Input | list[Input]] = {"text": [self.split(corpus, "train")]}
        if params.vocab_size:
            params = replace(params, vocab_size=min(params.vocab_size, SUBWORDS))
        if params.pretrained and released:
            params, inputs["model"] = replace(params, pretrained=""), Input(released, "start", "model")
        stage = self.lab.stage(f"tokenizer-{params.type}-{corpus}", **inputs)
        if not list(stage.folder.iterdir()):
            tokenizer_stage.run(params, stage)
        return Input(stage.folder, "tokenizer")

    def _augment(self) -> Path:
        stage = self.lab.stage("augment")
        if not list(stage.folder.iterdir()):
            small = augment_stage.Params(
                clip_s=2.0,
                coloured=ColouredOptions(clips=1),
                babble=BabbleOptions(clips=0),
                simulated_rooms=RoomOptions(count=1, max_size_m=(5.0, 5.0, 3.0), rt60_s=(0.2, 0.3)),
            )
            augment_stage.run(small, stage)
        return stage.folder


def of_no_recipe(name: str, folder: Path) -> Recipe:
    """A recipe, written into the folder, that trains the spec from scratch."""
    path = folder / f"{name}.yaml"
    path.write_text(OF_NO_RECIPE.replace("SPEC", name).replace("TOKENIZER", IN_NO_RECIPE[name]), encoding="utf-8")
    return load_recipe(path)


def model_of(folder: Path, stage: StageSpec) -> Path:
    """What a stage of that kind leaves as its model."""
    return folder / KINDS[stage.kind].writes["model"]


def short(trainer: dict[str, Any]) -> dict[str, Any]:
    """Lightning's options for two steps."""
    trainer = {key: value for key, value in trainer.items() if key != "max_epochs"} | {"max_steps": STEPS}
    if "accumulate_grad_batches" in trainer:
        trainer["accumulate_grad_batches"] = min(2, trainer["accumulate_grad_batches"])
    return trainer


def toy(params: finetune_stage.Params) -> finetune_stage.Params:
    """The recipe's parameters for two steps on a CPU: batches of two of the tests' Whisper, in the shortest windows."""
    train, dev = ({**section, "batch_size": 2} for section in (params.model.train_ds, params.model.validation_ds))
    model = replace(params.model, size=TOY, padding_s=0.0, train_ds=train, validation_ds=dev)
    return replace(params, model=model, trainer=short(params.trainer), precision="32")


def tiny(params: train_stage.Params) -> train_stage.Params:
    """The recipe's parameters for two steps on a CPU: batches of two, large models cut, Whisper's encoder tiny.

    Of more than ten convolutional blocks each keeps its kernel, stride and extras, but has one repeat and a quarter of
    the channels; of more than six Transformer or Conformer blocks two are left, with a quarter of the channels, too.
    """
    model = copy.deepcopy(params.model)
    model["train_ds"] |= {"batch_size": 2, "num_workers": 0}
    model["validation_ds"] = model.get("validation_ds", {}) | {"batch_size": 2}
    encoder = model["encoder"]
    if len(encoder.get("jasper", ())) > 10:
        encoder["jasper"] = [block | {"repeat": 1, "filters": block["filters"] // 4} for block in encoder["jasper"]]
        model["decoder"]["feat_in"] //= 4
    if encoder.get("n_layers", 0) > 6:
        encoder |= {"n_layers": 2, "d_model": encoder["d_model"] // 4}
        model["decoder"]["feat_in"] //= 4
    if encoder["_target_"].endswith("WhisperEncoder"):
        encoder |= {"size": "tiny", "layers": [3, 4]}
    return replace(params, model=model, trainer=short(params.trainer), precision="32")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(Lab(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def whisper(tiny_hf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random weights where hlas finds them by size: of `tiny` for a CTC model's encoder, of the tests' own for all."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    folder = tmp_path_factory.mktemp("whisper")
    (folder / "tiny").mkdir()
    write_whisper(folder / "tiny")
    shutil.copytree(tiny_hf, folder / TOY)
    size = Size(4, WIDTH, 2, decoder_layers=1)
    config = WhisperConfig.from_pretrained(tiny_hf, encoder_layers=size.layers)
    model = WhisperForConditionalGeneration.from_pretrained(tiny_hf, config=config)
    decoder = model.model.decoder
    decoder.layer_norm.bias.data += decoder.embed_tokens.weight.data[END]  # its texts end soon
    model.save_pretrained(folder / TOY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HLAS_WHISPER_HF_DIR", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setitem(SIZES, TOY, size)
        yield folder


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
@pytest.mark.usefixtures("whisper")
def test_every_model_of_a_recipe_trains_for_two_steps(path: Path, workshop: Workshop) -> None:
    recipe = load_recipe(path)
    stages = [stage for stage in recipe.stages if stage.kind in TRAINED]
    assert stages
    for stage in stages:
        folder = workshop.train(recipe, stage)
        summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        assert summary["steps"] == STEPS, stage.name
        assert model_of(folder, stage).exists()
        assert all(row["train_loss"] > 0 for row in curve(folder))
        part = stage.params.freeze != "none" or getattr(stage.params, "adapter", None) is not None
        never = POSITIONS * WIDTH if stage.kind == "finetune" else 0  # the sinusoids of Whisper's encoder do not learn
        assert (summary["trainable"] < summary["parameters"] - never) == part, stage.name
        if stage.kind == "train":
            assert (summary["decoder"] == "new") == (not keeps_decoder(recipe, stage))


def test_every_ctc_spec_is_trained_from_scratch_by_a_recipe_or_below() -> None:
    stages = [stage.params for path in RECIPES for stage in load_recipe(path).stages if stage.kind == "train"]
    trained = {params.name for params in stages if not params.pretrained}
    models = {path.stem: read_extended(path).data["model"] for path in (project_root() / "models").glob("*.yaml")}
    specs = {name for name, model in models.items() if isinstance(model, dict) and "encoder" in model}
    assert not trained & set(IN_NO_RECIPE)
    assert trained | set(IN_NO_RECIPE) == specs


@pytest.mark.parametrize("name", IN_NO_RECIPE)
def test_a_spec_of_no_recipe_trains_for_two_steps(name: str, workshop: Workshop) -> None:
    recipe = of_no_recipe(name, workshop.lab.store)
    folder = workshop.train(recipe, recipe.stage("train"))
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert (summary["steps"], summary["decoder"]) == (STEPS, "new")
    assert summary["parameters"] == summary["trainable"]
    assert (folder / "model.nemo").exists()
    assert all(row["train_loss"] > 0 for row in curve(folder))


TUNED = [path for path in RECIPES if any(stage.kind == "finetune" for stage in load_recipe(path).stages)]


@pytest.mark.parametrize("path", TUNED, ids=[path.stem for path in TUNED])
@pytest.mark.usefixtures("whisper")
def test_what_a_recipe_taught_a_whisper_is_heard(path: Path, workshop: Workshop) -> None:
    recipe, heard = load_recipe(path), {}
    for stage in recipe.stages:
        if stage.kind != "transcribe" or "weights" not in stage.inputs:
            continue
        teacher = recipe.stage(source(stage, "weights"))
        tuned = workshop.train(recipe, teacher)
        if tuned in heard:  # sizes that are one size here
            continue
        assert (model_of(tuned, teacher) / "below" / "1").is_dir() == (teacher.name == "two_stage")
        weights = Input(model_of(tuned, teacher), teacher.name, "model")
        dev = workshop.split("own", "dev")
        work = workshop.lab.stage(f"transcribe-{path.stem}-{tuned.name}", data=dev, weights=weights)
        assert stage.language
        params = replace(stage.params, padding_s=0.0, device="cpu")
        summary = transcribe_stage.run(params, replace(work, language=load_language(stage.language)))
        assert [h.row.text for h in read_hypotheses(work.folder / "dev.jsonl")] == TEXTS["own"][:2]
        merged = teacher.params.adapter is not None and not teacher.params.merge
        assert summary["weights"] == f"stage {teacher.name}.model" + (", merged" if merged else "")
        assert summary["language"] == ("ru" if path.stem.startswith("ru") else "cs")
        heard[tuned] = summary["weights_sha256"]
    assert len(set(heard.values())) == len(heard) >= 3


def keeps_decoder(recipe: Recipe, stage: StageSpec) -> bool:
    """Whether the stage's decoder can start from that of the model that it starts from."""
    if stage.params.pretrained:
        return bool(recipe.stage(source(stage, "tokenizer")).params.type == "of_model")
    if "init" not in stage.inputs:
        return False
    start = recipe.stage(source(stage, "init"))
    return bool(stage.params.keep_decoder_rows) or source(stage, "tokenizer") == source(start, "tokenizer")
