"""What several commands share: options with their help, the folder of results, the log on the terminal."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

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


def runs_folder(given: Path | None) -> Path:
    """The folder of results: the option, HLAS_RUNS, or runs/ in the project."""
    from hlas.paths import project_root

    return (given or Path(os.environ.get("HLAS_RUNS") or project_root() / "runs")).resolve()


def log_to_terminal() -> None:
    """Show the log's messages on stderr."""
    log = logging.getLogger("hlas")
    log.setLevel(logging.DEBUG)  # each stage's own log file gets everything
    log.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers = [handler]
