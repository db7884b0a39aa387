"""What a run would do: for each stage its fingerprint, whether it is made, what changed, how long it took last.

Reads YAML, stage records and file sizes; no audio, no torch.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hlas import store
from hlas.environment import code_hash
from hlas.errors import UserError, UserErrors
from hlas.files import sha256_json
from hlas.fingerprint import Hashes, changed, ingredients
from hlas.paths import shown
from hlas.recipe import Recipe, StageSpec
from hlas.stages import KINDS


@dataclass(frozen=True, slots=True)
class Selection:
    """Which stages a command is about."""

    start: str = ""  # --from: this stage and all that depends on it
    stop: str = ""  # --to: this stage and all that it needs
    only: str = ""  # --only
    force: tuple[str, ...] = ()  # --force: made anew, with all that depends on them


@dataclass(frozen=True, slots=True)
class Planned:
    """One stage of a plan."""

    stage: StageSpec
    fingerprint: str
    ingredients: dict[str, Any]
    folder: Path
    made: bool
    selected: bool
    forced: bool
    changes: tuple[str, ...]  # ingredients that differ from the stage's last result in this recipe; outputs removed
    last_seconds: float | None
    warning: str
    missing: tuple[UserError, ...]  # outside inputs that are not there
    language: str = ""  # path of its language's YAML where that is not the recipe's

    @property
    def runs(self) -> bool:
        """Whether `run` would make it."""
        return self.selected and (self.forced or not self.made)


def make_plan(recipe: Recipe, runs: Path, selection: Selection | None = None) -> list[Planned]:
    """Plan every stage of the recipe, in order."""
    selection = selection or Selection()
    hashes = Hashes(runs / "store" / ".hashes.json")
    selected = _selected(recipe, selection)
    forced = _downstream(recipe, selection.force)
    if unselected := [name for name in selection.force if name not in selected]:
        raise UserError(
            "--force", f"'{unselected[0]}' is not among the stages selected", "widen --from, --to or --only"
        )
    fingerprints: dict[str, str] = {}
    planned = []
    for stage in recipe.stages:
        parts, missing = ingredients(recipe, stage, fingerprints, hashes)
        fingerprint = sha256_json(parts)
        fingerprints[stage.name] = fingerprint
        folder = runs / "store" / store.folder_name(stage.kind, fingerprint)
        done = store.is_done(folder)
        last = store.read_record(folder) if done else _previous(runs / recipe.name / stage.name)
        gone = store.gone(folder, last) if done and last else []
        made = done and not gone
        planned.append(
            Planned(
                stage,
                fingerprint,
                parts,
                folder,
                made,
                stage.name in selected,
                stage.name in forced,
                _changes(last, parts, gone),
                last.seconds if last else None,
                _warning(stage, last) if made and last else "",
                tuple(missing),
                shown(stage.language) if stage.language and stage.language != recipe.language else "",
            )
        )
    hashes.save()
    return planned


def _previous(link: Path) -> store.Record | None:
    """The record of what the stage was before, if that is still there and legible."""
    try:
        return store.read_record(link)
    except UserError:
        return None


def _changes(last: store.Record | None, parts: dict[str, Any], gone: Iterable[str]) -> tuple[str, ...]:
    return () if last is None else (*_named(changed(last.ingredients, parts)), *(f"{name} is gone" for name in gone))


def _named(changes: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(c.removeprefix("params.").replace("inputs.", "input ") for c in changes)


def _warning(stage: StageSpec, record: store.Record) -> str:
    now = code_hash(KINDS[stage.kind].module)
    then = record.environment.get("code")
    if then and now != then:
        return f"the code of '{stage.kind}' changed since, its VERSION did not; --force {stage.name} makes it anew"
    return ""


def _downstream(recipe: Recipe, names: Iterable[str]) -> set[str]:
    """The stages named and all that depend on them."""
    out = {recipe.stage(name).name for name in names}
    for stage in recipe.stages:
        if any(edge.stage in out for edge in stage.edges()):
            out.add(stage.name)
    return out


def _upstream(recipe: Recipe, name: str) -> set[str]:
    """The stage and all that it needs."""
    out = {recipe.stage(name).name}
    for stage in reversed(recipe.stages):
        if stage.name in out:
            out |= {edge.stage for edge in stage.edges()}
    return out


def _selected(recipe: Recipe, selection: Selection) -> set[str]:
    if selection.only and (selection.start or selection.stop):
        raise UserError("--only", "given together with --from or --to", "use one of them")
    if selection.only:
        return {recipe.stage(selection.only).name}
    out = {stage.name for stage in recipe.stages}
    if selection.start:
        out &= _downstream(recipe, [selection.start])
    if selection.stop:
        out &= _upstream(recipe, selection.stop)
    if not out:
        raise UserError(
            "--from/--to", f"'{selection.stop}' does not depend on '{selection.start}'", "nothing would run"
        )
    return out


def check_ready(planned: list[Planned]) -> None:
    """Raise UserErrors where a stage to run lacks an outside input, or one that is neither made nor to be run."""
    available = {p.stage.name for p in planned if p.made or p.runs}
    errors: list[UserError] = []
    for p in planned:
        if not p.runs:
            continue
        errors += p.missing
        for edge in p.stage.edges():
            if edge.stage not in available:
                fix = f"run the recipe with --to {edge.stage} first"
                errors.append(UserError(p.stage.place, f"{p.stage.name} needs '{edge.stage}', which is not made", fix))
    if errors:
        raise UserErrors(errors)
