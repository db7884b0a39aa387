"""Stage `report`: every system's hypotheses -> metrics.json, report.md, report.html, and the hypotheses themselves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hlas.errors import UserError
from hlas.files import atomic_text, write_json
from hlas.manifests.rows import Hypothesis, rebase, write_rows
from hlas.manifests.rows_csv import write_hypotheses_csv
from hlas.stage import Stage, Summary


@dataclass(frozen=True)
class Params:
    """Keys of the stage itself."""

    title: str = ""  # of the page; '' = the recipe's name
    bootstrap: int = 1000  # resamples behind the intervals and tests; the smallest p is 2 / (bootstrap + 1)
    seed: int = 0  # of the resampling
    utterances: int = 200  # utterances that the page shows, worst first

    def __post_init__(self) -> None:
        """Refuse a bootstrap that could not give percentiles."""
        if self.bootstrap < 100:
            raise ValueError("bootstrap must be at least 100: the interval is made of its percentiles")
        if self.utterances < 0:
            raise ValueError("utterances must not be negative")


def run(params: Params, stage: Stage) -> Summary:
    """Score all systems and write the report."""
    from hlas.environment import environment
    from hlas.report.content import Report
    from hlas.report.evaluate import evaluate, metrics_json
    from hlas.report.headline import headline
    from hlas.report.markdown import markdown
    from hlas.report.page import page
    from hlas.report.provenance import trace
    from hlas.report.systems import load_systems

    systems = load_systems(stage.inputs["systems"])
    baseline = _baseline(stage, [system.name for system in systems])
    results = tuple(evaluate(systems, baseline, params.bootstrap, params.seed))
    provenance = trace(systems, [item.path for item in stage.inputs.get("curve", ())])
    language = stage.language
    report = Report(
        title=params.title or stage.recipe,
        language=language,
        results=results,
        provenance=provenance,
        resamples=params.bootstrap,
        shown_utterances=params.utterances,
    )
    normaliser = {"language": language.code, "version": language.version} if language else None
    extra = {
        "headline": {"split": report.first.split, "best": report.first.ranked[0].name, "baseline": baseline},
        "normaliser": normaliser,
        "bootstrap": {"resamples": params.bootstrap, "seed": params.seed},
        "stages": provenance.to_json(),
    }
    data = metrics_json(stage.recipe, language.code if language else "", results, environment(), extra)
    for system in systems:
        for split, hypotheses in system.splits.items():
            write_hypotheses(stage.folder / "hypotheses", f"{system.name}.{split}", hypotheses, system.folder)
    write_json(stage.folder / "metrics.json", data)
    for name, text in (("report.md", markdown(report)), ("report.html", page(report))):
        with atomic_text(stage.folder / name) as file:
            file.write(text)
    for sentence in headline(report.first):
        stage.log.info("%s", sentence)
    return {
        "counts": {
            result.split: {"systems": len(result.systems), "utterances": result.systems[0].score.utterances}
            for result in results
        },
        "headline": headline(report.first)[0],
    }


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


def write_hypotheses(folder: Path, name: str, hypotheses: Sequence[Hypothesis], source: Path) -> None:
    """Write `name`.jsonl and `name`.csv into the folder; audio paths still lead to the same files.

    `source` is the folder that the rows' relative paths start from.
    """
    rows = [replace(h, row=rebase(h.row, source, folder)) for h in hypotheses]
    write_rows(folder / f"{name}.jsonl", rows)
    write_hypotheses_csv(folder / f"{name}.csv", rows)
