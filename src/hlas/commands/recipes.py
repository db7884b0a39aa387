"""run, plan, validate, gc: recipes and their results."""

from pathlib import Path
from typing import Annotated

import typer

from hlas.commands.options import (
    ForceOption,
    FromOption,
    OnlyOption,
    RecipeArgument,
    RunsOption,
    SetOption,
    ToOption,
    WorkersOption,
    log_to_terminal,
    runs_folder,
)


def run(
    recipe: RecipeArgument,
    from_: FromOption = "",
    to: ToOption = "",
    only: OnlyOption = "",
    force: ForceOption = None,
    set_: SetOption = None,
    runs: RunsOption = None,
    workers: WorkersOption = 0,
) -> None:
    """Run a recipe: make what is not made, resume what was interrupted."""
    from hlas.parallel import default_workers
    from hlas.plan import Selection
    from hlas.recipe import load_recipe
    from hlas.runner import run_recipe
    from hlas.summary import closing_lines

    log_to_terminal()
    folder = runs_folder(runs)
    loaded = load_recipe(recipe, set_ or ())
    selection = Selection(from_, to, only, tuple(force or ()))
    try:
        planned = run_recipe(loaded, folder, selection, workers or default_workers())
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    for line in closing_lines(folder / loaded.name, planned):
        typer.echo(line)


def plan(
    recipe: RecipeArgument,
    from_: FromOption = "",
    to: ToOption = "",
    only: OnlyOption = "",
    force: ForceOption = None,
    set_: SetOption = None,
    runs: RunsOption = None,
) -> None:
    """Show each stage: made or to run, what changed, the time it took last. Reads no audio."""
    from hlas.plan import Selection, make_plan
    from hlas.recipe import load_recipe
    from hlas.summary import plan_lines

    loaded = load_recipe(recipe, set_ or ())
    planned = make_plan(loaded, runs_folder(runs), Selection(from_, to, only, tuple(force or ())))
    for line in plan_lines(planned):
        typer.echo(line)


def validate(
    recipes: Annotated[
        list[Path] | None, typer.Argument(metavar="[RECIPE]...", help="All of recipes/ where none is given.")
    ] = None,
) -> None:
    """Check recipes, specs, edges, files and the languages' golden cases; list every error at once."""
    from hlas.validate import validate_project, validate_recipes

    result = validate_recipes(recipes) if recipes else validate_project()
    for note in result.notes:
        typer.echo(f"note: {note}")
    for error in result.errors:
        typer.echo(str(error), err=True)
    counted = ", ".join(f"{number} {what}" for what, number in result.checked.items())
    if result.errors:
        typer.echo(f"{len(result.errors)} errors in {counted}", err=True)
        raise typer.Exit(2)
    typer.echo(f"valid: {counted}")


def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Remove them; without it they are only listed.")] = False,
    interrupted: Annotated[
        bool, typer.Option("--interrupted", help="Also half-made ones, which a recipe could still go on from.")
    ] = False,
    runs: RunsOption = None,
) -> None:
    """List results that no recipe's folder leads to any more, or remove them."""
    from hlas.gc import find_old, remove

    old = [item for item in find_old(runs_folder(runs)) if interrupted or not item.interrupted]
    freed = 0
    for item in old:
        busy = delete and not remove(item)
        freed += 0 if busy else item.size_bytes
        state = "  (being made: left)" if busy else "  (interrupted)" if item.interrupted else ""
        typer.echo(f"{item.size_bytes / 1e6:10.1f} MB  {item.folder.name}{state}")
    typer.echo(f"{freed / 1e6:.1f} MB {'freed' if delete else 'to be freed with --delete'}")
