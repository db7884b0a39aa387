"""The command line: thin. Heavy libraries are imported inside the commands that need them."""

import errno
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from hlas import __version__
from hlas.errors import UserError

app = typer.Typer(
    help="From a Common Voice release to a measured speech recogniser.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
corpus_app = typer.Typer(help="Make the demo corpus.", no_args_is_help=True)
app.add_typer(corpus_app, name="corpus")

RecipeArgument = Annotated[Path, typer.Argument(metavar="RECIPE", help="recipes/x.yaml")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="STAGE.KEY=VALUE", help="Change one value; repeatable.")
]
RunsOption = Annotated[
    Path | None, typer.Option(help="Folder of results (default: runs/ in the project, or HLAS_RUNS).")
]
FromOption = Annotated[str, typer.Option("--from", metavar="STAGE", help="This stage and all that depends on it.")]
ToOption = Annotated[str, typer.Option("--to", metavar="STAGE", help="This stage and all that it needs.")]
OnlyOption = Annotated[str, typer.Option(metavar="STAGE", help="This stage alone; its inputs must be made.")]
ForceOption = Annotated[
    list[str] | None, typer.Option(metavar="STAGE", help="Make it anew, with all that depends on it.")
]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes for audio and decoding (0: one a processor).")]


@app.command()
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

    _log_to_terminal()
    folder = _runs(runs)
    loaded = load_recipe(recipe, set_ or ())
    selection = Selection(from_, to, only, tuple(force or ()))
    try:
        planned = run_recipe(loaded, folder, selection, workers or default_workers())
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    for line in closing_lines(folder / loaded.name, planned):
        typer.echo(line)


@app.command()
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
    planned = make_plan(loaded, _runs(runs), Selection(from_, to, only, tuple(force or ())))
    for line in plan_lines(planned):
        typer.echo(line)


@app.command()
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


@app.command()
def transcribe(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Audio files, or folders of them.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="A .nemo file, a train stage's folder, or 'whisper-base'.")
    ],
    lm: Annotated[Path | None, typer.Option(help="An lm stage's folder: beam search with it.")] = None,
    format_: Annotated[
        str, typer.Option("--format", "-f", help="txt, json, srt, vtt, csv; several with commas.")
    ] = "txt",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the files (default: print).")] = None,
    language: Annotated[str, typer.Option(help="Language code that Whisper is told (default: it guesses).")] = "",
) -> None:
    """Transcribe audio with a trained model or Whisper."""
    from hlas.models.recognise import transcribe_paths

    _log_to_terminal()
    failed = transcribe_paths(paths, model, lm, tuple(format_.split(",")), out, language)
    raise typer.Exit(1 if failed else 0)


@app.command()
def score(
    reference: Annotated[Path, typer.Argument(metavar="REF", help="Text file, one utterance a line.")],
    hypothesis: Annotated[Path, typer.Argument(metavar="HYP", help="Text file with as many lines.")],
    language: Annotated[Path | None, typer.Option(help="Language YAML to normalise both with.")] = None,
    format_: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
) -> None:
    """Score plain text files: WER, CER and their relatives."""
    from hlas.manifests.text import load_language
    from hlas.report.score import score_files, score_text

    result = score_files(reference, hypothesis, load_language(language) if language else None)
    typer.echo(score_text(result, format_))


@corpus_app.command("demo")
def corpus_demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make; must not be there yet.")],
    seed: Annotated[int, typer.Option(help="Another seed, another corpus.")] = 1,
    workers: WorkersOption = 0,
) -> None:
    """Make the demo corpus (espeak-ng reads a grammar's sentences) as a Common Voice release folder."""
    from hlas.corpus.stage import Params, make_demo
    from hlas.parallel import default_workers

    _log_to_terminal()
    summary = make_demo(out, Params(seed=seed), workers or default_workers())
    typer.echo(f"{out}: {summary['counts']}")


@app.command()
def doctor() -> None:
    """Say what is present and what is missing, each with its fix."""
    from hlas.doctor import examine

    findings = examine()
    for finding in findings:
        typer.echo(finding.line())
    raise typer.Exit(1 if any(f.state == "missing" for f in findings) else 0)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(context: typer.Context) -> None:
    """Run the test suite; further arguments go to pytest."""
    from hlas.quality import run_tests

    raise typer.Exit(run_tests(context.args))


@app.command()
def check() -> None:
    """Run ruff, the format check, mypy and `validate`."""
    from hlas.quality import run_checks

    raise typer.Exit(run_checks())


def _version(value: bool) -> None:
    if value:
        typer.echo(f"hlas {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def _runs(given: Path | None) -> Path:
    from hlas.paths import project_root

    return (given or Path(os.environ.get("HLAS_RUNS") or project_root() / "runs")).resolve()


def _log_to_terminal() -> None:
    log = logging.getLogger("hlas")
    log.setLevel(logging.DEBUG)  # each stage's own log file gets everything
    log.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers = [handler]


def main() -> None:
    """Entry point: a UserError is printed without a traceback and exits with 2."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        where = error.filename or "input or output"
        fix = (
            "free some space" if error.errno == errno.ENOSPC else "check that it is there and that you may write to it"
        )
        print(f"error: {where}: {error.strerror or error}\n  fix: {fix}", file=sys.stderr)
        sys.exit(2)
