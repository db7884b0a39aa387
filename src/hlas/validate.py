"""`hlas validate`: everything that can be wrong before anything runs, all at once."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hlas.errors import UserError, UserErrors
from hlas.manifests.text import golden_failures, load_language
from hlas.paths import project_root
from hlas.recipe import load_recipe
from hlas.yamls import read_extended


@dataclass(frozen=True, slots=True)
class Validation:
    """What was checked, what is wrong, and what will be needed later."""

    errors: tuple[UserError, ...]
    notes: tuple[str, ...]
    checked: dict[str, int] = field(default_factory=dict)


def recipe_files() -> list[Path]:
    """Every recipe of the project."""
    return sorted((project_root() / "recipes").rglob("*.yaml"))


def language_files() -> list[Path]:
    """Every language of the project."""
    return sorted((project_root() / "manifests" / "languages").glob("*.yaml"))


def spec_files() -> list[Path]:
    """Every other YAML in the noun folders."""
    root = project_root()
    files = [f for noun in ("manifests", "tokenizers", "models", "lm") for f in (root / noun).rglob("*.yaml")]
    return sorted(set(files) - set(language_files()))


def validate_recipes(paths: Iterable[Path]) -> Validation:
    """Check recipes and the languages that they name."""
    recipes = list(paths)
    errors, notes, languages = _recipes(recipes)
    errors += _language_errors(languages)
    checked = {"recipes": len(recipes), "languages": len(languages)}
    return Validation(UserErrors(errors).errors, tuple(notes), checked)


def _recipes(paths: Iterable[Path]) -> tuple[list[UserError], list[str], set[Path]]:
    """Errors and notes of recipes, and the languages that they name."""
    errors: list[UserError] = []
    notes: list[str] = []
    languages: set[Path] = set()
    for path in paths:
        try:
            recipe = load_recipe(path)
        except UserError as error:
            errors += error.errors
            continue
        notes += recipe.notes
        languages |= recipe.languages
    return errors, list(dict.fromkeys(notes)), languages  # a recipe that extends another repeats its notes


def validate_project() -> Validation:
    """Check all recipes, all languages with their golden cases, and that every spec is well-formed YAML."""
    recipes, languages, specs = recipe_files(), language_files(), spec_files()
    errors, notes, named = _recipes(recipes)
    errors += _language_errors(sorted({*languages, *named}))
    for path in specs:
        try:
            errors += read_extended(path).errors
        except UserError as error:
            errors += error.errors
    checked = {"recipes": len(recipes), "languages": len(languages), "specs": len(specs)}
    return Validation(UserErrors(errors).errors, tuple(notes), checked)


def _language_errors(paths: Iterable[Path]) -> list[UserError]:
    errors: list[UserError] = []
    for path in paths:
        try:
            errors += golden_failures(load_language(path), path)
        except UserError as error:
            errors += error.errors
    return errors
