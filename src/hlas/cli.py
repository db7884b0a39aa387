"""The command line: puts the commands of `hlas.commands` together; thin, and fast to start."""

import errno
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from hlas import __version__
from hlas.commands import corpus, evaluation, language, project, recipes, recognition, stats
from hlas.errors import UserError

app = typer.Typer(
    help="From a Common Voice release to a measured speech recogniser.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS: tuple[Callable[..., None], ...] = (
    *(recipes.run, recipes.plan, recipes.validate, recipes.gc),
    *(recognition.transcribe, evaluation.score, evaluation.report, evaluation.diff, stats.stats),
)
for command in _COMMANDS:
    app.command()(command)
app.add_typer(corpus.app, name="corpus")
app.add_typer(language.app, name="language")
app.command()(project.doctor)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(project.test)
app.command()(project.check)


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
