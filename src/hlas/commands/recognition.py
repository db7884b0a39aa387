"""transcribe: audio files outside a recipe."""

from pathlib import Path
from typing import Annotated

import typer

from hlas.commands.options import log_to_terminal


def transcribe(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Audio files, or folders of them.")],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="A .nemo file, a train or finetune stage's folder, 'whisper-SIZE' (tiny, base, …, large-v3-turbo), "
            "or a folder of a Whisper (CTranslate2's or Hugging Face's form) or of a LoRA adapter for one.",
        ),
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

    log_to_terminal()
    failed = transcribe_paths(paths, model, lm, tuple(format_.split(",")), out, language)
    raise typer.Exit(1 if failed else 0)
