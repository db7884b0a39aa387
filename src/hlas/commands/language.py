"""language new, language check: language specs drafted from text, and what they do to it."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from hlas.commands.options import WorkersOption

app = typer.Typer(help="Draft a language spec from text; show what a spec does to text.", no_args_is_help=True)


@app.command()
def new(
    code: Annotated[str, typer.Argument(metavar="CODE", help="The locale's name in Common Voice, e.g. hsb, sv-SE.")],
    text: Annotated[Path, typer.Option(help="Sentences: a text file, a Common Voice .tsv or a .jsonl manifest.")],
    name: Annotated[str, typer.Option(help="The language's English name (default: the code).")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write (default: manifests/languages/CODE.yaml).")
    ] = None,
    workers: WorkersOption = 0,
) -> None:
    """Draft a language spec by counting a text's characters; never overwrites."""
    from hlas.manifests.language.draft import write_draft
    from hlas.manifests.language.file import language_folder
    from hlas.parallel import default_workers
    from hlas.paths import shown

    path = out or language_folder() / f"{code}.yaml"
    write_draft(path, code, name or code, text, workers or default_workers())
    typer.echo(f"{shown(path.resolve())}: a draft; read its comments and golden cases, then run: ./hlas validate")


@app.command()
def check(
    language: Annotated[str, typer.Argument(metavar="LANGUAGE", help="A code (hsb) or a language YAML.")],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A text file, a Common Voice .tsv or a .jsonl manifest.")
    ],
    examples: Annotated[int, typer.Option(min=0, help="Examples of each outcome.")] = 3,
    format_: Annotated[Literal["text", "json"], typer.Option("--format", help="text or json.")] = "text",
    workers: WorkersOption = 0,
) -> None:
    """Show what a language's rules do to a file: kept, changed, rejected and why, with examples."""
    from hlas.manifests.language.check import check_file, check_json, check_lines
    from hlas.manifests.language.file import find_language
    from hlas.manifests.language.sentences import open_sentences
    from hlas.manifests.text import load_language
    from hlas.parallel import default_workers

    spec = load_language(find_language(language))
    result = check_file(spec, open_sentences(file), examples=examples, workers=workers or default_workers())
    if format_ == "json":
        typer.echo(json.dumps(check_json(spec, result), ensure_ascii=False, indent=1))
    else:
        for line in check_lines(spec, result):
            typer.echo(line)
