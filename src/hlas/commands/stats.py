"""stats: what a corpus is made of, outside a recipe."""

from pathlib import Path
from typing import Annotated

import typer


def stats(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Folders of a manifests stage, or manifests (.jsonl).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for stats.html and stats.json.")] = Path("stats"),
    text: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Text, such as an LM's, to look for the sentences in; repeatable."),
    ] = None,
    language: Annotated[str, typer.Option(help="A code (hsb) or a language YAML: the rules for --text.")] = "",
    title: Annotated[str, typer.Option(help="Title of the page (default: the folders).")] = "",
) -> None:
    """Describe manifests: durations, speakers, votes, letters, vocabulary, as a page and as JSON."""
    from hlas.errors import UserError
    from hlas.manifests.language.file import find_language
    from hlas.manifests.text import load_language
    from hlas.parallel import default_workers
    from hlas.stats.explore import Texts, explore

    if bool(text) != bool(language):
        raise UserError("--text", "needs the language's rules, and these need a text", "give --text and --language")
    texts = Texts(tuple(text), load_language(find_language(language)), default_workers()) if text else None
    for line in explore(paths, out, title, texts):
        typer.echo(line)
