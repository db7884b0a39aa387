"""The shipped recipes: each says what it needs, is valid on a bare machine, and its models train for two steps.

The training is the recipe's own, stage by stage, with its models, tokenizers, starts and frozen parts, on a language of
tones instead of a release. Where a Whisper is trained, its weights are random and it is small, but found and loaded as
OpenAI's are.
"""

import copy
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hlas.augment import stage as augment_stage
from hlas.augment.options import BabbleOptions, ColouredOptions, RoomOptions
from hlas.files import sha256_json
from hlas.inputs import Edge
from hlas.manifests.rows import read_hypotheses
from hlas.manifests.text import load_language
from hlas.models import finetune_stage, train_stage, transcribe_stage
from hlas.models.whisper_sizes import SIZES, Size
from hlas.paths import project_root
from hlas.plan import make_plan
from hlas.recipe import Recipe, StageSpec, load_recipe
from hlas.stage import Input
from hlas.stages import KINDS
from hlas.tokenizers import stage as tokenizer_stage
from hlas.validate import recipe_files
from train_kit import Lab, curve, write_split, write_whisper
from whisper_kit import END, WIDTH

pytest_plugins = ("whisper_kit",)
RECIPES = recipe_files()
NAMES = [path.stem for path in RECIPES]
TEXTS = {  # transcripts of the two languages that a transfer goes between: the second has a letter less
    "own": ["ab ca", "ba", "c ab", "bca a", "cab ba", "a b c", "abcab", "ca ba"],
    "other": ["ab ba", "baa", "a ab", "bba a", "bab ba", "a b a", "abbab", "ba ba"],
}
SUBWORDS = 9  # as many as the tones' transcripts can give
STEPS = 2
POSITIONS = 1500
TOY = "toy"  # a size of the tests' own, beside OpenAI's
TRAINED = {"train": train_stage, "finetune": finetune_stage}


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the variables that recipes name is set."""
    for path in RECIPES:
        for name in re.findall(r"\$\{oc\.env:(\w+)", path.read_text(encoding="utf-8")):
            monkeypatch.delenv(name, raising=False)


def test_there_are_recipes_for_what_the_readme_lists() -> None:
    readme = (project_root() / "recipes" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)\.yaml` \|", readme, re.MULTILINE)
    assert sorted(listed) == sorted(NAMES)
    assert len(NAMES) >= 10


def header(path: Path) -> str:
    """The comment at the top of a recipe."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])


def explains(path: Path, variable: str) -> bool:
    """Whether the header says how to set the variable, or that of a recipe it points to: 'as in hsb_quartznet.yaml'."""
    text = header(path)
    others = re.findall(r"\bas (?:in )?(\w+\.yaml)", text)
    return f"{variable} =" in text or any(explains(path.with_name(name), variable) for name in others)


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_a_recipe_says_what_it_needs_and_is_valid_on_a_bare_machine(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert f"./hlas run recipes/{path.name}" in header(path)
    for variable in re.findall(r"\$\{oc\.env:(\w+)", str(recipe.resolved)):
        assert explains(path, variable), variable
    assert all("needed when the stage runs" in note for note in recipe.notes)


@pytest.mark.parametrize(
    ("recipe", "stage", "other_recipe", "other_stage"),
    [
        ("hsb_augmentation", "cutout", "hsb_quartznet", "train"),
        ("hsb_transfer", "scratch", "hsb_quartznet", "train"),
        ("hsb_two_stage", "train_cs", "cs_conformer", "train_cs"),
    ],
)
def test_what_another_recipe_made_is_not_made_again(
    recipe: str, stage: str, other_recipe: str, other_stage: str, tmp_path: Path
) -> None:
    def fingerprint(name: str, of: str) -> str:
        planned = make_plan(load_recipe(project_root() / "recipes" / f"{name}.yaml"), tmp_path)
        return next(p.fingerprint for p in planned if p.stage.name == of)

    assert fingerprint(recipe, stage) == fingerprint(other_recipe, other_stage)


def test_a_transfer_reports_every_way_to_freeze_beside_training_from_scratch() -> None:
    recipe = load_recipe(project_root() / "recipes" / "cs_hsb_transfer.yaml")
    ways = ("none", "encoder", "encoder_except_last_2")
    systems = [str(edge) for edge in recipe.stage("report").inputs["systems"]]
    assert systems[:2] == ["scratch_greedy", "scratch_beam_lm"]
    assert systems[2:] == [f"transfer_{kind}@freeze={way}" for kind in ("greedy", "beam_lm") for way in ways]
    assert recipe.stage("transfer@freeze=encoder_except_last_2").params.freeze == {"encoder_except_last": 2}
    trained = [s for s in recipe.stages if s.kind == "train" and s.name != "related_train"]
    assert len(trained) == 4
    assert len({s.params.trainer["max_epochs"] for s in trained}) == 1


@pytest.mark.parametrize("name", ["ru_whisper_tuned", "cs_hsb_whisper_lora", "hsb_whisper_tuned"])
def test_each_tuned_whisper_is_heard_and_reported(name: str) -> None:
    recipe = load_recipe(project_root() / "recipes" / f"{name}.yaml")
    systems = {str(edge) for edge in recipe.stage("report").inputs["systems"]}
    heard = {_source(stage, "weights"): stage for stage in recipe.stages if "weights" in stage.inputs}
    tuned = {stage.name: stage for stage in recipe.stages if stage.kind == "finetune"}
    below = {_source(stage, "init") for stage in tuned.values() if "init" in stage.inputs}
    assert set(heard) | below == set(tuned)
    for stage in heard.values():
        assert stage.name in systems
        assert stage.params.padding_s == "auto"  # windows as it was taught
    assert any(stage.kind == "transcribe" and "weights" not in stage.inputs for stage in recipe.stages)


def test_the_example_of_a_tuned_whisper_is_a_recipe(tmp_path: Path) -> None:
    readme = (project_root() / "models" / "README.md").read_text(encoding="utf-8")
    (example,) = (block for block in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "finetune" in block)
    path = tmp_path / "my_whisper.yaml"
    path.write_text(example, encoding="utf-8")
    recipe = load_recipe(path)
    assert not recipe.notes  # it needs nothing from outside
    assert recipe.stage("whisper").params.padding_s == "auto"  # windows as it was taught


def test_russian_whispers_differ_in_nothing_but_size_and_what_is_frozen() -> None:
    recipe = load_recipe(project_root() / "recipes" / "ru_whisper_tuned.yaml")
    ways = {"none": "none", "encoder_except_last_4": {"encoder_except_last": 4}, "encoder": "encoder"}
    tuned = {stage.name: stage for stage in recipe.stages if stage.kind == "finetune"}
    assert list(tuned) == [f"tuned@model.size={size}@freeze={way}" for size in ("base", "small") for way in ways]
    for name, stage in tuned.items():
        size, way = (part.partition("=")[2] for part in name.split("@")[1:])
        assert (stage.params.model.size, stage.params.freeze) == (size, ways[way])
        assert _source(recipe.stage(name.replace("tuned", "whisper")), "weights") == name
    rest = [
        replace(stage.params, freeze="none", model=replace(stage.params.model, size="base")) for stage in tuned.values()
    ]
    assert all(params == rest[0] for params in rest)
    assert rest[0].keep_outputs is None and rest[0].adapter is None


def test_the_settings_of_whisper_are_the_published_ones() -> None:
    def params(recipe: str, stage: str) -> finetune_stage.Params:
        found: finetune_stage.Params = load_recipe(project_root() / "recipes" / f"{recipe}.yaml").stage(stage).params
        return found

    freezing = params("ru_whisper_tuned", "tuned@model.size=small@freeze=encoder")
    assert (freezing.model.train_ds["batch_size"], freezing.trainer["accumulate_grad_batches"]) == (8, 2)
    assert (freezing.model.optim["lr"], freezing.model.optim["weight_decay"]) == (1e-4, 0.01)
    assert freezing.model.optim["sched"]["name"] == "WarmupAnnealing"  # linear
    assert freezing.exp_manager.create_early_stopping_callback
    assert freezing.exp_manager.early_stopping_callback_params.patience == 3
    for stage in ("direct", "czech", "two_stage"):
        adapting = params("cs_hsb_whisper_lora", stage)
        assert (adapting.model.train_ds["batch_size"], adapting.trainer["accumulate_grad_batches"]) == (8, 1)
        assert (adapting.model.optim["lr"], adapting.trainer["max_epochs"]) == (1e-3, 3)
        assert adapting.adapter and (adapting.adapter.lora.r, adapting.adapter.lora.alpha) == (32, 64)
        assert (freezing.model.dropout, adapting.model.dropout) == (0.0, 0.0)


@dataclass
class Workshop:
    """Trains the recipes' stages on tones, each training once however many recipes have it."""

    lab: Lab
    made: dict[str, Path] = field(default_factory=dict)  # key of a training -> its folder

    def train(self, recipe: Recipe, stage: StageSpec) -> Path:
        """The folder of the stage's training; what it starts from is trained before it."""
        given = toy(stage.params) if isinstance(stage.params, finetune_stage.Params) else tiny(stage.params)
        source = recipe.stage(_source(stage, "train"))
        corpus = "own" if source.language == recipe.language else "other"
        inputs: dict[str, Input | list[Input]] = {split: self.split(corpus, split) for split in ("train", "dev")}
        if "tokenizer" in stage.inputs:
            inputs["tokenizer"] = self._tokenizer(corpus, recipe.stage(_source(stage, "tokenizer")).params)
        for name in {"noise", "rooms"} & set(stage.inputs):
            inputs[name] = Input(self._augment() / f"{name}.jsonl", "augment", name)
        if "init" in stage.inputs:
            start = self.train(recipe, recipe.stage(_source(stage, "init")))
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

    def _tokenizer(self, corpus: str, params: tokenizer_stage.Params) -> Input:
        if params.vocab_size:
            params = replace(params, vocab_size=min(params.vocab_size, SUBWORDS))
        stage = self.lab.stage(f"tokenizer-{params.type}-{corpus}", text=[self.split(corpus, "train")])
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


def _source(stage: StageSpec, key: str) -> str:
    """Name of the stage that makes the input."""
    (edge,) = stage.inputs[key]
    assert isinstance(edge, Edge)
    return edge.stage


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
    the channels; of more than six Transformer or Conformer blocks two are left.
    """
    model = copy.deepcopy(params.model)
    model["train_ds"] |= {"batch_size": 2, "num_workers": 0}
    model["validation_ds"] = model.get("validation_ds", {}) | {"batch_size": 2}
    encoder = model["encoder"]
    if len(encoder.get("jasper", ())) > 10:
        encoder["jasper"] = [block | {"repeat": 1, "filters": block["filters"] // 4} for block in encoder["jasper"]]
        model["decoder"]["feat_in"] //= 4
    if encoder.get("n_layers", 0) > 6:
        encoder["n_layers"] = 2
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
            assert (summary["decoder"] == "new") == ("init" not in stage.inputs or not same_labels(recipe, stage))


@pytest.mark.usefixtures("whisper")
def test_what_two_stages_taught_a_whisper_is_heard(workshop: Workshop) -> None:
    recipe = load_recipe(project_root() / "recipes" / "cs_hsb_whisper_lora.yaml")
    weights = {}
    for name in ("czech", "two_stage"):
        stage = recipe.stage(f"whisper_{name}")
        tuned = workshop.train(recipe, recipe.stage(name))
        assert (model_of(tuned, recipe.stage(name)) / "below" / "1").is_dir() == (name == "two_stage")
        dev = workshop.split("own", "dev")
        work = workshop.lab.stage(f"transcribe-{name}", data=dev, weights=Input(tuned / "model", name, "model"))
        assert stage.language
        params = replace(stage.params, padding_s=0.0, device="cpu")
        summary = transcribe_stage.run(params, replace(work, language=load_language(stage.language)))
        heard = read_hypotheses(work.folder / "dev.jsonl")
        assert [h.row.text for h in heard] == TEXTS["own"][:2]
        assert summary["weights"] == f"stage {name}.model, merged"
        assert summary["language"] == "cs"
        weights[name] = summary["weights_sha256"]
    assert weights["czech"] != weights["two_stage"]


def same_labels(recipe: Recipe, stage: StageSpec) -> bool:
    """Whether the stage's decoder can start from that of the model that it starts from."""
    start = recipe.stage(_source(stage, "init"))
    return stage.params.keep_decoder_rows or _source(stage, "tokenizer") == _source(start, "tokenizer")
