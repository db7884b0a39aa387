"""Stage `rescore`: n-best lists of a decode stage + a second LM -> the same lists in a better order."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from hlas.decode.outputs import OOV, SEARCH, TIMING, TUNING, add_seconds, count_oov, write_hypotheses
from hlas.decode.tune import Weights, axes_at_edge, edge_warnings, error_rates
from hlas.decode.tuning_split import check_tuning_split, refuse_test
from hlas.errors import UserError
from hlas.files import read_json, write_json
from hlas.manifests.rows import Candidate, Hypothesis, read_hypotheses, rebase
from hlas.stage import Stage, Summary

if TYPE_CHECKING:
    from hlas.decode.rescore import Features, Mix, MixPoint
    from hlas.lm.ngram import LmFiles


@dataclass(frozen=True)
class RescoreGrid:
    """The values that are tried, all with all: on n-best lists that costs next to nothing."""

    alpha: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.2)
    first: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)  # times the alpha that the search had
    beta: tuple[float, ...] = (-4.0, -3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)

    def __post_init__(self) -> None:
        """Check that each axis holds rising values."""
        for name, values in (("alpha", self.alpha), ("first", self.first), ("beta", self.beta)):
            if not values or list(values) != sorted(set(values)) or not all(map(isfinite, values)):
                raise ValueError(f"{name} takes one or more values, each larger than the one before")
        if self.alpha[0] < 0 or self.first[0] < 0:
            raise ValueError("alpha and first are not negative")


@dataclass(frozen=True)
class Params:
    """Keys of the stage."""

    tune_on: str | None = None  # split on which the weights are chosen from the grid; never test
    alpha: float | None = None  # weight of this stage's LM, where nothing is tuned
    first_alpha: float = 0.0  # weight of the search's LM, where nothing is tuned
    beta: float = 0.0  # bonus for each word, where nothing is tuned
    unk_score_offset: float = -10.0  # added to this LM's score (log10) of a word that it does not know
    grid: RescoreGrid = field(default_factory=RescoreGrid)

    def __post_init__(self) -> None:
        """Check that weights are either given or tuned, and not on test."""
        refuse_test(self.tune_on)
        if (self.tune_on is None) == (self.alpha is None):
            raise ValueError("give either tune_on, for tuned weights, or alpha (with first_alpha and beta)")
        if not (0 <= (self.alpha or 0) < inf and 0 <= self.first_alpha < inf and isfinite(self.beta)):
            raise ValueError("alpha and first_alpha are finite and not negative, beta is finite")


def run(params: Params, stage: Stage) -> Summary:
    """Write <split>.jsonl, <split>.csv, oov.json, timing.json; tuning.json where tuned."""
    from hlas.decode.lm_score import LmScorer
    from hlas.decode.rescore import features_of, reorder

    folder = stage.one("nbest").path.resolve()
    lm = _find_lm(stage)
    splits = _read(stage, folder)
    rows = {split: [h.row for h in hypotheses] for split, hypotheses in splits.items()}
    if params.tune_on is not None:
        check_tuning_split(stage.name, params.tune_on, rows, stage.log)
    searched = _searched(folder)
    scorer = LmScorer(lm, params.unk_score_offset)
    features, seconds = {}, {}
    for split, hypotheses in splits.items():
        started = time.perf_counter()
        features[split] = [features_of(h.nbest, searched, scorer) for h in hypotheses]
        seconds[split] = time.perf_counter() - started
    mix, summary = _choose(params, stage, searched, splits, features)
    home = stage.folder.resolve()
    for split, hypotheses in splits.items():
        started = time.perf_counter()
        new = (
            _rescored(replace(h, row=rebase(h.row, folder, home)), reorder(h.nbest, own, mix))
            for h, own in zip(hypotheses, features[split], strict=True)
        )
        write_hypotheses(stage.folder, split, new)
        seconds[split] = round(seconds[split] + time.perf_counter() - started, 3)
    before = read_json(folder / TIMING) if (folder / TIMING).is_file() else {}
    write_json(stage.folder / TIMING, add_seconds(before, rows, seconds))
    references = {split: [row.text for row in own] for split, own in rows.items()}
    write_json(stage.folder / OOV, count_oov(lm.words(), references))
    counts = {split: len(own) for split, own in rows.items()}
    return {"counts": counts, **asdict(mix), **summary, "rescore_s": seconds}


def _find_lm(stage: Stage) -> "LmFiles":
    from hlas.lm.ngram import find_lm

    item = stage.one("lm")
    lm = find_lm(item.path.resolve())
    if lm.unit != "word":
        raise UserError(f"{stage.name}.lm: {item.label}", "is an LM of tokens", "n-best lists are rescored by words")
    return lm


def _read(stage: Stage, folder: Path) -> dict[str, Sequence[Hypothesis]]:
    """The hypotheses of every split; all must have n-best lists."""
    splits: dict[str, Sequence[Hypothesis]] = {
        path.stem: read_hypotheses(path) for path in sorted(folder.glob("*.jsonl"))
    }
    if not splits:
        raise UserError(str(folder), "no hypotheses (<split>.jsonl)", "name a decode stage")
    if not all(h.nbest for hypotheses in splits.values() for h in hypotheses):
        raise UserError(
            f"{stage.name}.nbest: {stage.one('nbest').label}",
            "there are hypotheses without an n-best list",
            "name a decode stage with a beam search ('search: lm/beam_100.yaml')",
        )
    if all(len(h.nbest) == 1 for hypotheses in splits.values() for h in hypotheses):
        stage.log.warning("%s: every n-best list holds one candidate: raise nbest in the search", stage.name)
    return splits


def _searched(folder: Path) -> Weights:
    """The weights of the search that made the lists."""
    path = folder / SEARCH
    if not path.is_file():
        raise UserError(str(folder), f"no {SEARCH}, so the lists' scores cannot be taken apart", "decode anew")
    found = read_json(path)
    return Weights(found["alpha"], found["beta"])


def _choose(
    params: Params,
    stage: Stage,
    searched: Weights,
    splits: dict[str, Sequence[Hypothesis]],
    features: "dict[str, list[Features]]",
) -> "tuple[Mix, Summary]":
    """The weights, given or tuned, and what the summary says of them."""
    from hlas.decode.rescore import Mix, tune_mix

    if params.tune_on is None:
        assert params.alpha is not None
        return Mix(params.first_alpha, params.alpha, params.beta), {"weights_from": "given"}
    grid = params.grid
    firsts = [share * searched.alpha for share in grid.first] if searched.alpha else [0.0]
    # the search's own order is among the mixes: on dev, rescoring loses to it nowhere
    own = Mix(searched.alpha, 0.0, searched.beta)
    mixes = [own, *(Mix(first, alpha, beta) for first in firsts for alpha in grid.alpha for beta in grid.beta)]
    hypotheses = splits[params.tune_on]
    references, nbests = [h.row.text for h in hypotheses], [h.nbest for h in hypotheses]
    points = tune_mix(list(dict.fromkeys(mixes)), references, nbests, features[params.tune_on])
    best = min(points, key=lambda point: point.rank)
    before = error_rates(references, [h.pred_text for h in hypotheses])
    stage.log.info(
        "%s: alpha %g, first alpha %g, beta %g: WER %.4f on %s, before %.4f",
        *(stage.name, best.mix.alpha, best.mix.first_alpha, best.mix.beta, best.rates.wer, params.tune_on, before.wer),
    )
    if best.mix == own:
        stage.log.warning("%s: no mix is better than the search's own order: the LM adds nothing", stage.name)
    else:
        at_edge = axes_at_edge(alpha=(best.mix.alpha, grid.alpha), beta=(best.mix.beta, grid.beta))
        for warning in edge_warnings(at_edge):
            stage.log.warning("%s: %s", stage.name, warning)
    shown = [point for point in points if point.mix.first_alpha == best.mix.first_alpha]
    table = {"chosen": _json(best), "table": [_json(point) for point in shown]}
    write_json(stage.folder / TUNING, {"split": params.tune_on, "points": len(points)} | table)
    rates = asdict(best.rates) | {f"{name}_before": value for name, value in asdict(before).items()}
    return best.mix, {"weights_from": f"tuned on {params.tune_on}", params.tune_on: rates}


def _json(point: "MixPoint") -> dict[str, float | bool]:
    """A row of tuning.json; every point is exact for these lists."""
    return {**asdict(point.mix), **asdict(point.rates), "redecoded": True}


def _rescored(hypothesis: Hypothesis, nbest: Sequence[Candidate]) -> Hypothesis:
    """The hypothesis with its candidates in their new order; word times are known for the search's best only."""
    best, kept = nbest[0], nbest[0].text == hypothesis.pred_text
    return replace(
        hypothesis,
        pred_text=best.text,
        raw_pred_text=hypothesis.raw_pred_text if kept else best.text,
        nbest=tuple(nbest),
        logit_score=best.logit_score,
        lm_score=best.lm_score,
        words=hypothesis.words if kept else (),
    )
