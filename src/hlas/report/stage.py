"""Stage `report`: every system's hypotheses -> metrics.json, report.md, report.html, TensorBoard, the hypotheses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hlas.errors import UserError
from hlas.files import atomic_text, write_json
from hlas.stage import Stage, Summary

if TYPE_CHECKING:
    from hlas.report.content import Report
    from hlas.report.evaluate import SystemResult


@dataclass(frozen=True)
class Params:
    """Keys of the stage itself."""

    title: str = ""  # of the page; '' = the recipe's name
    bootstrap: int = 1000  # resamples behind the intervals and tests; more where there are many comparisons
    seed: int = 0  # of the resampling
    utterances: int | None = None  # that the page's browser holds, worst first; null = all
    audio: Literal["embed", "link", "none"] = "embed"  # clips inside the page; 'link': the others as links beside it
    audio_mb: float = 20.0  # of clips inside the page at most, worst utterances first

    def __post_init__(self) -> None:
        """Refuse a bootstrap that could not give percentiles."""
        if self.bootstrap < 100:
            raise ValueError("bootstrap must be at least 100: the interval is made of its percentiles")
        if self.utterances is not None and self.utterances < 0:
            raise ValueError("utterances must not be negative")
        if self.audio_mb < 0:
            raise ValueError("audio_mb must not be negative")


def run(params: Params, stage: Stage) -> Summary:
    """Score all systems and write the report."""
    from hlas.report.headline import headline
    from hlas.report.markdown import markdown
    from hlas.report.metrics_file import metrics_json
    from hlas.report.page import PageOptions, page
    from hlas.report.scalars import write_scalars

    report = _report(params, stage)
    for result in report.results:
        for item in result.systems:
            write_hypotheses(stage.folder / "hypotheses", f"{item.name}.{result.split}", item)
    write_json(stage.folder / "metrics.json", metrics_json(report))
    write_scalars(stage.folder / "tensorboard", report.results)
    options = PageOptions(stage.folder, params.audio, params.audio_mb, params.utterances, stage.workers)
    for name, text in (("report.md", markdown(report)), ("report.html", page(report, options))):
        with atomic_text(stage.folder / name) as file:
            file.write(text)
    for sentence in headline(report.first):
        stage.log.info("%s", sentence)
    return {
        "counts": {
            result.split: {"systems": len(result.systems), "utterances": result.systems[0].score.utterances}
            for result in report.results
        },
        "headline": headline(report.first)[0],
    }


def _report(params: Params, stage: Stage) -> "Report":
    from hlas.environment import environment
    from hlas.report.content import Report
    from hlas.report.evaluate import evaluate
    from hlas.report.provenance import command_line, fingerprints, resolved_recipe, trace
    from hlas.report.systems import load_systems

    systems = load_systems(stage.inputs["systems"])
    baseline = _baseline(stage, [system.name for system in systems])
    results = evaluate(systems, baseline, params.bootstrap, params.seed, workers=stage.workers)
    provenance = trace(systems, {item.path: item.stage for item in stage.inputs.get("curve", ())})
    runs = stage.folder.resolve().parent.parent
    return Report(
        title=params.title or stage.recipe,
        recipe=stage.recipe,
        language=stage.language,
        results=tuple(results),
        provenance=provenance,
        seed=params.seed,
        command=command_line(),
        made=environment(),
        recipes=resolved_recipe(runs / stage.recipe) if stage.recipe else (),
        fingerprints=fingerprints(provenance),
    )


def _baseline(stage: Stage, names: Sequence[str]) -> str:
    """The baseline's name: the recipe's choice, else the first system."""
    item = stage.optional("baseline")
    if item is None:
        return names[0]
    if item.stage not in names:
        raise UserError(
            f"{stage.name}.baseline",
            f"'{item.label}' is not one of the systems: {', '.join(names)}",
            "add it to 'systems'",
        )
    return item.stage


def write_hypotheses(folder: Path, name: str, result: "SystemResult") -> None:
    """Write `name`.jsonl and `name`.csv with each utterance's counts; audio paths still lead to the same files."""
    from hlas.files import write_json_lines
    from hlas.manifests.rows import rebase
    from hlas.manifests.rows_csv import write_hypotheses_csv

    rows = [replace(h, row=rebase(h.row, result.system.folder, folder)) for h in result.hypotheses]
    counts = result.score.utterance_json()
    write_json_lines(folder / f"{name}.jsonl", (row.to_json() | own for row, own in zip(rows, counts, strict=True)))
    write_hypotheses_csv(folder / f"{name}.csv", rows, counts)
