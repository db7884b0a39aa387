"""From loaded systems to numbers: scores, intervals, comparisons, oracle, breakdowns."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hlas.manifests.rows import Hypothesis, Row
from hlas.models.transcripts import count_doubts
from hlas.report.breakdown import Analysis, OnlyRight, VocabularyRecall
from hlas.report.confusions import confusions, only_right, right_words, vocabulary_recall, worst
from hlas.report.dimensions import divisions
from hlas.report.groups import Counted, break_down
from hlas.report.mapsswe import mapsswe
from hlas.report.metrics import Score, Scored, oracle_errors, score_systems
from hlas.report.pairing import NOTHING, Allowed, Paired, pair
from hlas.report.significance import (
    RESAMPLES_A_PAIR,
    Comparison,
    Floats,
    Units,
    bootstrap_wer,
    choose_units,
    describe_test,
    holm,
    hours_needed,
    interval95,
    paired_p,
)
from hlas.report.systems import System, lm_words, splits_of


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

    @property
    def doubts(self) -> dict[str, int]:
        """Number of utterances by what the system itself holds against its text; in the order of `DOUBTS`."""
        return count_doubts(h.doubts for h in self.hypotheses)

    @property
    def doubted(self) -> int:
        """Number of utterances whose text the system doubts for any reason."""
        return sum(bool(h.doubts) for h in self.hypotheses)

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
        return data | self.system.told | {"doubts": self.doubts}


@dataclass(frozen=True, slots=True)
class SplitResult:
    """All systems on one split, over the same utterances."""

    split: str
    units: Units
    resamples: int  # behind its intervals and tests
    baseline: str  # '' where the baseline lacks this split
    systems: tuple[SystemResult, ...]  # in the recipe's order
    comparisons: tuple[Comparison, ...]
    rows: tuple[Row, ...]  # what is known of each utterance, in the split's common order
    audio_folder: Path  # that the rows' relative audio paths start from
    same_text: bool  # False where systems have other references: each is then scored against its own
    warnings: tuple[str, ...]  # what the comparison had to pass over
    analysis: Analysis

    @property
    def ranked(self) -> list[SystemResult]:
        """Fewest word errors first; ties keep the recipe's order."""
        return sorted(self.systems, key=lambda r: r.score.wer)

    def comparison(self, a: str, b: str) -> Comparison | None:
        """The comparison of b against a, if it was made."""
        return next((c for c in self.comparisons if (c.a, c.b) == (a, b)), None)


def evaluate(
    systems: Sequence[System],
    baseline: str,
    resamples: int,
    seed: int,
    allowed: Allowed = NOTHING,
    workers: int = 1,
) -> list[SplitResult]:
    """Score every split that a system has, test first.

    With many systems there are more resamples than asked for, so that a p corrected for all of them can get small.
    """
    splits = splits_of(systems)
    present = {split: [system for system in systems if split in system.splits] for split in splits}
    enough = max(resamples, RESAMPLES_A_PAIR * sum(map(_pairs_of, present.values())))
    settings = _Settings(baseline, enough, resamples, seed, lm_words(systems))
    results = []
    for split, there in present.items():
        paired = pair(there, split, allowed)
        scores = score_systems([_texts(hypotheses) for hypotheses in paired.hypotheses], workers)
        results.append(_split(split, there, paired, scores, settings))
    return corrected(results, pairs_in(results))


@dataclass(frozen=True, slots=True)
class _Settings:
    """What all splits are evaluated with."""

    baseline: str
    resamples: int  # of the whole split
    group_resamples: int
    seed: int
    lm: tuple[str, frozenset[str]]  # name and words


def _split(
    split: str, systems: Sequence[System], paired: Paired, scores: Sequence[Score], settings: _Settings
) -> SplitResult:
    errors, words = [s.utterance_errors for s in scores], [s.utterance_words for s in scores]
    units = choose_units([row.speaker for row in paired.rows], np.sum(words, axis=0))
    resampled = bootstrap_wer(errors, words, units, settings.resamples, settings.seed)
    results = tuple(
        _system_result(system, split, hypotheses, system_score, resampled[:, column], paired.rows)
        for column, (system, hypotheses, system_score) in enumerate(
            zip(systems, paired.hypotheses, scores, strict=True)
        )
    )
    names = [system.name for system in systems]
    here = settings.baseline if settings.baseline in names else ""
    hours = sum(row.duration for row in paired.rows) / 3600
    comparisons = []
    for a, b in _pairs(results, here):
        i, j = names.index(a), names.index(b)
        difference, delta = resampled[:, j] - resampled[:, i], scores[j].wer - scores[i].wer
        p = paired_p(difference, delta, units.count)
        comparisons.append(
            Comparison(
                a=a,
                b=b,
                split=split,
                wer_delta=delta,
                wer_delta_ci95=interval95(difference),
                p_value=p,
                p_holm=p,
                test=describe_test(units, settings.resamples),
                mapsswe=mapsswe(scores[i].counts, scores[j].counts) if paired.same_text else None,
                hours=hours,
                hours_needed=hours_needed(hours, delta, float(difference.std(ddof=1))),
            )
        )
    counted = Counted(paired.rows, names, errors, words, units, settings.group_resamples, settings.seed)
    return SplitResult(
        split=split,
        units=units,
        resamples=settings.resamples,
        baseline=here,
        systems=results,
        comparisons=tuple(comparisons),
        rows=paired.rows,
        audio_folder=paired.audio_folder,
        same_text=paired.same_text,
        warnings=paired.warnings,
        analysis=_analysis(results, counted, paired.same_text, settings.lm),
    )


def _analysis(
    results: Sequence[SystemResult], counted: Counted, same_text: bool, lm: tuple[str, frozenset[str]]
) -> Analysis:
    names, counts = counted.names, [r.score.counts for r in results]
    references = [[h.row.text for h in r.hypotheses] for r in results]
    hypotheses = [[h.pred_text for h in r.hypotheses] for r in results]
    only: Sequence[OnlyRight] = ()
    vocabulary: Sequence[VocabularyRecall] = ()
    if same_text:  # word by word, the systems compare over the same references only
        right = right_words(counts)
        only = only_right(names, references[0], right) if len(results) > 1 else ()
        vocabulary = vocabulary_recall(names, references[0], right, lm[1]) if lm[1] else ()
    return Analysis(
        breakdowns=tuple(break_down(counted, divisions(counted.rows, counted.words[0].tolist(), *lm))),
        confusions=tuple(confusions(names, references, hypotheses, counts)),
        only_right=tuple(only),
        worst=tuple(worst(c) for c in counts),
        vocabulary=tuple(vocabulary),
        lm=lm[0],
    )


def pairs_in(results: Sequence[SplitResult]) -> int:
    """Pairs of systems in all splits: any could have been that of the best, which is known only after looking."""
    return sum(_pairs_of(result.systems) for result in results)


def _pairs_of(systems: Sequence[object]) -> int:
    return len(systems) * (len(systems) - 1) // 2


def corrected(results: Sequence[SplitResult], tests: int) -> list[SplitResult]:
    """The results with each test's p corrected for so many that could have been made."""
    comparisons = [c for result in results for c in result.comparisons]
    adjusted = iter(holm([c.p_value for c in comparisons], tests))
    segments = iter(holm([c.mapsswe.p_value for c in comparisons if c.mapsswe], tests))
    out = []
    for result in results:
        own = [
            replace(
                c,
                p_holm=next(adjusted),
                mapsswe=replace(c.mapsswe, p_holm=next(segments)) if c.mapsswe else None,
            )
            for c in result.comparisons
        ]
        out.append(replace(result, comparisons=tuple(own)))
    return out


def _pairs(results: Sequence[SystemResult], baseline: str) -> list[tuple[str, str]]:
    """Everything against the baseline, and everything else against the best."""
    pairs = [(baseline, r.name) for r in results if baseline and r.name != baseline]
    best, *others = sorted(results, key=lambda r: r.score.wer)
    if best.name != baseline:
        pairs += [(r.name, best.name) for r in others if r.name != baseline]
    return pairs


def _texts(hypotheses: Sequence[Hypothesis]) -> Scored:
    return Scored(
        [h.row.text for h in hypotheses],
        [h.pred_text for h in hypotheses],
        [h.row.raw_text for h in hypotheses],
        [h.raw_pred_text for h in hypotheses],
    )


def _system_result(
    system: System,
    split: str,
    hypotheses: tuple[Hypothesis, ...],
    system_score: Score,
    resampled: Floats,
    rows: Sequence[Row],
) -> SystemResult:
    depth = max((len(h.nbest) for h in hypotheses), default=0)
    timing = system.timing.get(split)
    return SystemResult(
        name=system.name,
        system=system,
        hypotheses=hypotheses,
        score=system_score,
        wer_ci95=interval95(resampled),
        audio_s=float(np.sum([row.duration for row in rows])),
        rtfx=timing.rtfx if timing else None,
        oracle_wer=_oracle_errors(hypotheses) / system_score.words if depth else None,
        nbest_depth=depth,
        oov_share=system.oov_share.get(split),
    )


def _oracle_errors(hypotheses: Sequence[Hypothesis]) -> int:
    """The 1-best is a candidate too, so that the oracle is never worse than its system."""
    candidates = [(h.pred_text, *(c.text for c in h.nbest)) for h in hypotheses]
    return oracle_errors([h.row.text for h in hypotheses], candidates)
