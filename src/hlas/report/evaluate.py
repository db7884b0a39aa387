"""From loaded systems to numbers: scores, intervals, comparisons, oracle; and their form in metrics.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hlas.manifests.rows import Hypothesis
from hlas.report.metrics import Score, oracle_errors, score
from hlas.report.significance import (
    Comparison,
    Floats,
    Units,
    bootstrap_wer,
    choose_units,
    describe_test,
    interval95,
    two_sided_p,
)
from hlas.report.systems import System, aligned, splits_of


@dataclass(frozen=True, slots=True)
class SystemResult:
    """One system on one split."""

    name: str
    system: System
    hypotheses: tuple[Hypothesis, ...]  # in the split's common order
    score: Score
    wer_ci95: tuple[float, float]
    audio_s: float
    rtfx: float | None
    oracle_wer: float | None  # None without n-best lists
    nbest_depth: int  # longest n-best list; 0 without
    oov_share: float | None

    def to_json(self, units: Units) -> dict[str, Any]:
        """The entry in metrics.json."""
        data = self.score.to_json() | {
            "audio_s": round(self.audio_s, 3),
            "rtfx": self.rtfx,
            "wer_ci95": list(self.wer_ci95),
            "ci_unit": units.kind,
            "ci_units": units.count,
        }
        if self.oracle_wer is not None:
            data |= {"oracle_wer": self.oracle_wer, "nbest_depth": self.nbest_depth}
        if self.oov_share is not None:
            data["oov_share"] = self.oov_share
        return data


@dataclass(frozen=True, slots=True)
class SplitResult:
    """All systems on one split, over the same utterances."""

    split: str
    units: Units
    baseline: str  # '' where the baseline lacks this split
    systems: tuple[SystemResult, ...]  # in the recipe's order
    comparisons: tuple[Comparison, ...]

    @property
    def ranked(self) -> list[SystemResult]:
        """Fewest word errors first; ties keep the recipe's order."""
        return sorted(self.systems, key=lambda r: r.score.wer)

    def comparison(self, a: str, b: str) -> Comparison | None:
        """The comparison of b against a, if it was made."""
        return next((c for c in self.comparisons if (c.a, c.b) == (a, b)), None)


def evaluate(systems: Sequence[System], baseline: str, resamples: int, seed: int) -> list[SplitResult]:
    """Score every split that a system has, test first."""
    return [_split(systems, split, baseline, resamples, seed) for split in splits_of(systems)]


def _split(systems: Sequence[System], split: str, baseline: str, resamples: int, seed: int) -> SplitResult:
    present = [system for system in systems if split in system.splits]
    rows = aligned(present, split)
    scores = [_score(hypotheses) for hypotheses in rows]
    words = scores[0].utterance_words
    units = choose_units([h.row.speaker for h in rows[0]], words)
    resampled = bootstrap_wer([s.utterance_errors for s in scores], words, units, resamples, seed)
    results = tuple(
        _system_result(system, split, hypotheses, system_score, resampled[:, column])
        for column, (system, hypotheses, system_score) in enumerate(zip(present, rows, scores, strict=True))
    )
    names = [system.name for system in present]
    here = baseline if baseline in names else ""
    comparisons = []
    for a, b in _pairs(results, here):
        i, j = names.index(a), names.index(b)
        difference = resampled[:, j] - resampled[:, i]
        comparisons.append(
            Comparison(
                a=a,
                b=b,
                split=split,
                wer_delta=scores[j].wer - scores[i].wer,
                wer_delta_ci95=interval95(difference),
                p_value=two_sided_p(difference),
                test=describe_test(units, resamples),
            )
        )
    return SplitResult(split, units, here, results, tuple(comparisons))


def _pairs(results: Sequence[SystemResult], baseline: str) -> list[tuple[str, str]]:
    """Everything against the baseline, and the best against the second where neither is the baseline."""
    pairs = [(baseline, r.name) for r in results if baseline and r.name != baseline]
    best_first = [r.name for r in sorted(results, key=lambda r: r.score.wer)][:2]
    if len(best_first) == 2 and baseline not in best_first:
        pairs.append((best_first[1], best_first[0]))
    return pairs


def _score(hypotheses: Sequence[Hypothesis]) -> Score:
    return score(
        [h.row.text for h in hypotheses],
        [h.pred_text for h in hypotheses],
        [h.row.raw_text for h in hypotheses],
        [h.raw_pred_text for h in hypotheses],
    )


def _system_result(
    system: System, split: str, hypotheses: tuple[Hypothesis, ...], system_score: Score, resampled: Floats
) -> SystemResult:
    depth = max((len(h.nbest) for h in hypotheses), default=0)
    timing = system.timing.get(split)
    return SystemResult(
        name=system.name,
        system=system,
        hypotheses=hypotheses,
        score=system_score,
        wer_ci95=interval95(resampled),
        audio_s=float(np.sum([h.row.duration for h in hypotheses])),
        rtfx=timing.rtfx if timing else None,
        oracle_wer=_oracle_errors(hypotheses) / system_score.words if depth else None,
        nbest_depth=depth,
        oov_share=system.oov_share.get(split),
    )


def _oracle_errors(hypotheses: Sequence[Hypothesis]) -> int:
    """The 1-best is a candidate too, so that the oracle is never worse than its system."""
    candidates = [(h.pred_text, *(c.text for c in h.nbest)) for h in hypotheses]
    return oracle_errors([h.row.text for h in hypotheses], candidates)


def metrics_json(
    recipe: str, language: str, results: Sequence[SplitResult], environment: Mapping[str, Any], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of metrics.json: systems in the recipe's order, each with its splits."""
    names = dict.fromkeys(item.name for result in results for item in result.systems)
    by_system = {
        name: {r.split: s.to_json(r.units) for r in results for s in r.systems if s.name == name} for name in names
    }
    return {
        "recipe": recipe,
        "language": language,
        "systems": by_system,
        "comparisons": [
            {
                "a": c.a,
                "b": c.b,
                "split": c.split,
                "wer_delta": c.wer_delta,
                "wer_delta_ci95": list(c.wer_delta_ci95),
                "p_value": c.p_value,
                "test": c.test,
            }
            for r in results
            for c in r.comparisons
        ],
        "environment": dict(environment),
        **extra,
    }
