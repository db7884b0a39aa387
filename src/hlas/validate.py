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
    errors: list[UserError] = []
    notes: list[str] = []
    languages: set[Path] = set()
    count = 0
    for path in paths:
        count += 1
        try:
            recipe = load_recipe(path)
        except UserErrors as several:
            errors += several.errors
            continue
        except UserError as error:
            errors.append(error)
            continue
        notes += recipe.notes
        if recipe.language:
            languages.add(recipe.language)
    errors += _language_errors(languages)
    return Validation(tuple(errors), tuple(notes), {"recipes": count, "languages": len(languages)})


def validate_project() -> Validation:
    """Check all recipes, all languages with their golden cases, and that every spec is well-formed YAML."""
    result = validate_recipes(recipe_files())
    errors = list(result.errors)
    seen = {load_recipe(p).language for p in recipe_files()} if not errors else set()
    others = [p for p in language_files() if p not in seen]
    errors += _language_errors(others)
    specs = spec_files()
    for path in specs:
        try:
            errors += read_extended(path).errors
        except UserError as error:
            errors.append(error)
    checked = {"recipes": result.checked["recipes"], "languages": len(language_files()), "specs": len(specs)}
    return Validation(tuple(dict.fromkeys(errors)), result.notes, checked)


def _language_errors(paths: Iterable[Path]) -> list[UserError]:
    errors: list[UserError] = []
    for path in paths:
        try:
            errors += golden_failures(load_language(path), path)
        except UserErrors as several:
            errors += several.errors
        except UserError as error:
            errors.append(error)
    return errors
