"""metrics.json: every number of a report, for programs."""

from typing import Any

from hlas.report.content import Report
from hlas.report.evaluate import SplitResult


def metrics_json(report: Report) -> dict[str, Any]:
    """The content: systems in the recipe's order, each with its splits; what lies behind them; how it was made."""
    results, language = report.results, report.language
    names = dict.fromkeys(item.name for result in results for item in result.systems)
    return {
        "recipe": report.recipe,
        "language": language.code if language else "",
        "systems": {
            name: {r.split: s.to_json(r.units) for r in results for s in r.systems if s.name == name} for name in names
        },
        "comparisons": [c.to_json() for r in results for c in r.comparisons],
        "headline": {
            "split": report.first.split,
            "best": report.first.ranked[0].name,
            "baseline": report.first.baseline,
        },
        "warnings": [*report.warnings, *(warning for r in results for warning in r.warnings)],
        "breakdowns": {r.split: [b.to_json() for b in r.analysis.breakdowns] for r in results},
        "errors": {r.split: _errors(r) for r in results},
        "normaliser": {"language": language.code, "version": language.version} if language else None,
        "bootstrap": {"resamples": report.first.resamples, "seed": report.seed},
        "stages": report.provenance.to_json(),
        "command": report.command,
        "recipes": dict(report.recipes),
        "environment": dict(report.made),
    }


def _errors(result: SplitResult) -> dict[str, Any]:
    """What each system gets wrong, and right alone: by name."""
    analysis = result.analysis
    only = {o.system: o.to_json() for o in analysis.only_right}
    vocabulary = {v.system: v.to_json() for v in analysis.vocabulary}
    return {
        item.name: {
            "confusions": found.to_json(),
            "only_right": only.get(item.name),
            "vocabulary": vocabulary.get(item.name),
            "worst": [
                {"utterance": result.rows[i].utterance, "errors": int(item.score.utterance_errors[i])} for i in worst
            ],
        }
        for item, found, worst in zip(result.systems, analysis.confusions, analysis.worst, strict=True)
    }
