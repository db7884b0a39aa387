"""The shipped recipes: each says what it needs, is valid on a bare machine, and its models train for two steps.

The training is the recipe's own, stage by stage, with its models, tokenizers, starts and frozen parts, on a language of
tones instead of a release.
"""

import copy
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hlas.augment import stage as augment_stage
from hlas.augment.options import BabbleOptions, ColouredOptions, RoomOptions
from hlas.files import sha256_json
from hlas.inputs import Edge
from hlas.models import train_stage
from hlas.paths import project_root
from hlas.plan import make_plan
from hlas.recipe import Recipe, StageSpec, load_recipe
from hlas.stage import Input
from hlas.tokenizers import stage as tokenizer_stage
from hlas.validate import recipe_files
from train_kit import Lab, curve, write_split, write_whisper

RECIPES = recipe_files()
NAMES = [path.stem for path in RECIPES]
TEXTS = {  # transcripts of the two languages that a transfer goes between: the second has a letter less
    "own": ["ab ca", "ba", "c ab", "bca a", "cab ba", "a b c", "abcab", "ca ba"],
    "other": ["ab ba", "baa", "a ab", "bba a", "bab ba", "a b a", "abbab", "ba ba"],
}
SUBWORDS = 9  # as many as the tones' transcripts can give
STEPS = 2


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


@dataclass
class Workshop:
    """Trains the recipes' stages on tones, each training once however many recipes have it."""

    lab: Lab
    made: dict[str, Path] = field(default_factory=dict)  # key of a training -> its folder

    def train(self, recipe: Recipe, stage: StageSpec) -> Path:
        """The folder of the stage's training; what it starts from is trained before it."""
        corpus = "own" if recipe.stage(_source(stage, "train")).language == recipe.language else "other"
        tokenizer = recipe.stage(_source(stage, "tokenizer"))
        sets = tuple(name for name in ("noise", "rooms") if name in stage.inputs)
        start = self.train(recipe, recipe.stage(_source(stage, "init"))) if "init" in stage.inputs else None
        key = sha256_json([corpus, stage.plain, tokenizer.plain, sets, start.name if start else ""])
        if key not in self.made:
            inputs: dict[str, Input | list[Input]] = {
                "train": self._split(corpus, "train"),
                "dev": self._split(corpus, "dev"),
                "tokenizer": self._tokenizer(corpus, tokenizer.params),
            }
            inputs |= {name: Input(self._augment() / f"{name}.jsonl", "augment", name) for name in sets}
            if start:
                inputs["init"] = Input(start / "model.nemo", "start", "model")
            work = self.lab.stage(f"train-{key[:12]}", **inputs)
            summary = train_stage.run(tiny(stage.params), work)
            (work.folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
            self.made[key] = work.folder
        return self.made[key]

    def _split(self, corpus: str, split: str) -> Input:
        folder = self.lab.store / f"manifests-{corpus}"
        if not folder.exists():
            folder.mkdir()
            write_split(folder, "train", TEXTS[corpus])
            write_split(folder, "dev", TEXTS[corpus][:2])
        return Input(folder / f"{split}.jsonl", "manifests", split)

    def _tokenizer(self, corpus: str, params: tokenizer_stage.Params) -> Input:
        if params.vocab_size:
            params = replace(params, vocab_size=min(params.vocab_size, SUBWORDS))
        stage = self.lab.stage(f"tokenizer-{params.type}-{corpus}", text=[self._split(corpus, "train")])
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
    trainer = {key: value for key, value in params.trainer.items() if key != "max_epochs"} | {"max_steps": STEPS}
    if "accumulate_grad_batches" in trainer:
        trainer["accumulate_grad_batches"] = 2
    return replace(params, model=model, trainer=trainer, precision="32")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(Lab(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Whisper's form with random weights."""
    folder = tmp_path_factory.mktemp("whisper")
    write_whisper(folder)
    return folder


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_every_model_of_a_recipe_trains_for_two_steps(
    path: Path, workshop: Workshop, whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HLAS_WHISPER_HF_DIR", str(whisper))
    recipe = load_recipe(path)
    stages = [stage for stage in recipe.stages if stage.kind == "train"]
    assert stages
    for stage in stages:
        folder = workshop.train(recipe, stage)
        summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        assert summary["steps"] == STEPS, stage.name
        assert (folder / "model.nemo").is_file()
        assert all(row["train_loss"] > 0 for row in curve(folder))
        frozen = summary["trainable"] < summary["parameters"]
        assert frozen == (stage.params.freeze != "none"), stage.name
        assert (summary["decoder"] == "new") == ("init" not in stage.inputs or not same_labels(recipe, stage))


def same_labels(recipe: Recipe, stage: StageSpec) -> bool:
    """Whether the stage's decoder can start from that of the model that it starts from."""
    start = recipe.stage(_source(stage, "init"))
    return stage.params.keep_decoder_rows or _source(stage, "tokenizer") == _source(start, "tokenizer")
