"""score: evaluation outside a recipe."""

from pathlib import Path
from typing import Annotated

import typer


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
