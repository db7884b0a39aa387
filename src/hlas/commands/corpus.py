"""corpus demo: the corpus of the demo recipe."""

from pathlib import Path
from typing import Annotated

import typer

from hlas.commands.options import WorkersOption, log_to_terminal

app = typer.Typer(help="Make the demo corpus.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make; must not be there yet.")],
    seed: Annotated[int, typer.Option(help="Another seed, another corpus.")] = 1,
    workers: WorkersOption = 0,
) -> None:
    """Make the demo corpus (espeak-ng reads a grammar's sentences) as a Common Voice release folder."""
    from hlas.corpus.stage import Params, make_demo
    from hlas.parallel import default_workers

    log_to_terminal()
    summary = make_demo(out, Params(seed=seed), workers or default_workers())
    typer.echo(f"{out}: {summary['counts']}")
