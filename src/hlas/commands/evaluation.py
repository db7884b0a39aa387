"""score, report, diff: evaluation outside a recipe."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hlas.commands.options import WorkersOption

LanguageOption = Annotated[
    Path | None,
    typer.Option(help="Language YAML: every text goes through its rules, from its raw form where there is one."),
]
SplitOption = Annotated[str, typer.Option(help="Only this split (default: all).")]
ClipsOption = Annotated[
    bool, typer.Option("--allow-different-clips", help="Score the clips that all have, and say so in the report.")
]
TextOption = Annotated[
    bool,
    typer.Option(
        "--allow-different-text", help="Score each system against its own references, and say so in the report."
    ),
]
BootstrapOption = Annotated[int, typer.Option(min=100, help="Resamples behind the intervals and tests.")]


def score(
    reference: Annotated[Path, typer.Argument(metavar="REF", help="Text file, one utterance a line.")],
    hypothesis: Annotated[Path, typer.Argument(metavar="HYP", help="Text file with as many lines.")],
    language: Annotated[Path | None, typer.Option(help="Language YAML to normalise both with.")] = None,
    format_: Annotated[str, typer.Option("--format", "-f", help="text, json, csv or md.")] = "text",
) -> None:
    """Score plain text files: WER, CER and their relatives."""
    from hlas.manifests.text import load_language
    from hlas.report.score import score_files, score_text

    result = score_files(reference, hypothesis, load_language(language) if language else None)
    typer.echo(score_text(result, format_))


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="runs/RECIPE, runs/RECIPE/STAGE, a report's folder, or a JSON lines file with pred_text of any tool; "
            "NAME=PATH names it.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write; its ending says the format.")],
    format_: Annotated[str, typer.Option("--format", "-f", help="html, md, json, csv or latex.")] = "",
    baseline: Annotated[str, typer.Option(help="System that all are compared with (default: the first).")] = "",
    split: SplitOption = "",
    language: LanguageOption = None,
    title: Annotated[str, typer.Option(help="Heading of the report.")] = "",
    audio: Annotated[
        Literal["embed", "link", "none"],
        typer.Option(help="Clips in the page; 'link' adds links to those that do not fit."),
    ] = "embed",
    bootstrap: BootstrapOption = 1000,
    allow_different_clips: ClipsOption = False,
    allow_different_text: TextOption = False,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder for the same numbers as TensorBoard scalars.")
    ] = None,
    workers: WorkersOption = 0,
) -> None:
    """Compare any runs, and any hypotheses of other tools, in one report."""
    from hlas.parallel import default_workers
    from hlas.report.across.compare import Request, compare
    from hlas.report.across.formats import choose_format, write_report
    from hlas.report.headline import headline
    from hlas.report.pairing import Allowed
    from hlas.report.scalars import write_scalars

    style = choose_format(out, format_)
    processes = workers or default_workers()
    allowed = Allowed(allow_different_clips, allow_different_text)
    made = compare(Request(tuple(runs), baseline, split, language, title, bootstrap, 0, allowed, processes))
    write_report(made, out, style, audio, processes)
    if tensorboard:
        write_scalars(tensorboard, made.results)
    for sentence in headline(made.first):
        typer.echo(sentence)
    for warning in (*made.warnings, *(w for result in made.results for w in result.warnings)):
        typer.echo(f"note: {warning}")
    typer.echo(f"report: {out}")


def diff(
    old: Annotated[str, typer.Argument(metavar="RUN", help="As for `report`: the run before.")],
    new: Annotated[str, typer.Argument(metavar="RUN", help="The run after.")],
    format_: Annotated[Literal["text", "json"], typer.Option("--format", "-f", help="text or json.")] = "text",
    split: SplitOption = "",
    language: LanguageOption = None,
    bootstrap: BootstrapOption = 1000,
    allow_different_clips: ClipsOption = False,
    allow_different_text: TextOption = False,
    workers: WorkersOption = 0,
) -> None:
    """What changed between two runs: in the recipe, in the numbers, in which utterances."""
    import json

    from hlas.parallel import default_workers
    from hlas.report.across.compare import Request
    from hlas.report.across.run_diff import diff_lines, diff_runs
    from hlas.report.pairing import Allowed

    allowed = Allowed(allow_different_clips, allow_different_text)
    request = Request((), "", split, language, "", bootstrap, 0, allowed, workers or default_workers())
    found = diff_runs(old, new, request)
    if format_ == "json":
        typer.echo(json.dumps(found.to_json(), ensure_ascii=False, indent=1, allow_nan=False))
        return
    for line in diff_lines(found):
        typer.echo(line)
