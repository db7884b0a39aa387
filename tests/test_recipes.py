"""The shipped recipes: each says what it needs, is valid on a bare machine, and has the settings that it is there for.

That their models train, test_recipe_training.py checks.
"""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from hlas.models import finetune_stage
from hlas.paths import project_root
from hlas.plan import make_plan
from hlas.recipe import load_recipe
from recipe_kit import NAMES, RECIPES, source


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
    heard = {source(stage, "weights"): stage for stage in recipe.stages if "weights" in stage.inputs}
    tuned = {stage.name: stage for stage in recipe.stages if stage.kind == "finetune"}
    below = {source(stage, "init") for stage in tuned.values() if "init" in stage.inputs}
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
        assert source(recipe.stage(name.replace("tuned", "whisper")), "weights") == name
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
