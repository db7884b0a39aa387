"""stats: what a corpus is made of, outside a recipe."""

from pathlib import Path
from typing import Annotated

import typer


def stats(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Folders of a manifests stage, or manifests (.jsonl).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for stats.html and stats.json.")] = Path("stats"),
    title: Annotated[str, typer.Option(help="Title of the page (default: the folders).")] = "",
) -> None:
    """Describe manifests: durations, speakers, votes, letters, vocabulary, as a page and as JSON."""
    from hlas.stats.explore import explore

    for line in explore(paths, out, title):
        typer.echo(line)
