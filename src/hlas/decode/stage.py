"""Stage `decode`: log-probs -> hypotheses of every split, greedily or by a beam search with or without an LM."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from math import inf, isfinite
from typing import TYPE_CHECKING, Literal

from hlas.decode.outputs import OOV, SEARCH, TIMING, TUNING, add_seconds, count_oov, write_hypotheses
from hlas.decode.search import NO_LM, BackendName, SearchOptions, check_search
from hlas.decode.tune import Grid, Rates, Tuned, Weights, error_rates, tune, tune_width
from hlas.decode.tuning_split import check_tuning_split, refuse_test
from hlas.errors import UserError
from hlas.files import read_json, write_json
from hlas.manifests.rows import Candidate, Hypothesis, Row, rebase
from hlas.progress import track
from hlas.stage import Stage, Summary

if TYPE_CHECKING:
    from pathlib import Path

    from hlas.decode.logprobs import LogProbs
    from hlas.decode.search import NBest
    from hlas.lm.ngram import LmFiles

DEFAULT_WEIGHTS = Weights(alpha=0.5, beta=1.5)  # pyctcdecode's


@dataclass(frozen=True)
class Params:
    """Keys of a search spec and of the stage; without a spec the search is greedy."""

    backend: Literal["greedy"] | BackendName = "greedy"  # auto: the fastest that is here and gives the reference's text
    width: int = 100  # prefixes kept at a frame
    beam_prune_logp: float = -10.0  # prefixes so much worse than the best one go (natural log)
    token_min_logp: float = -5.0  # labels less likely than this are tried only where they are a frame's best
    nbest: int = 10  # candidates written for each utterance
    unk_score_offset: float = -10.0  # added to the LM's score (log10) of a word that it does not know
    prune_history: bool = False  # drop a prefix that differs from a better one only before the LM's memory
    hotwords: dict[str, float] = field(default_factory=dict)  # word: bonus (natural log; 10 is strong)
    word_times: bool = False  # write when each word of the best text was said, and how sure that is
    alpha: float | None = None  # weight of the LM; None: tuned, or 0.5
    beta: float | None = None  # bonus for each word, with an LM only; None: tuned, or 1.5
    tune_on: str | None = None  # split on which alpha, beta (and width) are chosen from the grid; never test
    grid: Grid = field(default_factory=Grid)

    def __post_init__(self) -> None:
        """Check the ranges, and that nothing is tuned on test."""
        self.options()
        if self.alpha is not None and not 0 <= self.alpha < inf:
            raise ValueError("alpha is finite and not negative")
        if self.beta is not None and not isfinite(self.beta):
            raise ValueError("beta is finite")
        refuse_test(self.tune_on)
        if self.tune_on is not None and (self.alpha is not None or self.beta is not None):
            raise ValueError("alpha and beta are either given or tuned: remove tune_on, or both of them")

    def options(self, width: int | None = None) -> SearchOptions:
        """The search's options, with another width where one was chosen."""
        return SearchOptions(
            width=self.width if width is None else width,
            beam_prune_logp=self.beam_prune_logp,
            token_min_logp=self.token_min_logp,
            unk_score_offset=self.unk_score_offset,
            nbest=self.nbest,
            backend="auto" if self.backend == "greedy" else self.backend,
            prune_history=self.prune_history,
            hotwords=tuple(self.hotwords.items()),
            word_times=self.word_times,
        )


@dataclass(frozen=True, slots=True)
class _Chosen:
    """How to search."""

    weights: Weights
    weights_from: str  # 'given', 'default', 'tuned on <split>'; '' without an LM
    options: SearchOptions
    tuned: Tuned | None = None


def run(params: Params, stage: Stage) -> Summary:
    """Write <split>.jsonl, <split>.csv, search.json, timing.json; with an LM oov.json; tuning.json where tuned."""
    folder, data = _open(stage)
    found = _check_request(params, stage, data)
    lm = _find_lm(params, stage, data, found)
    summary: Summary = {"counts": {split: len(data[split].utterances) for split in data}, "backend": params.backend}
    chosen: _Chosen | None = None
    if params.backend != "greedy":
        chosen = _choose(params, stage, lm, data, found)
        summary |= {"width": chosen.options.width}
        write_json(stage.folder / SEARCH, asdict(chosen.options) | asdict(chosen.weights))
    if lm is not None and chosen is not None:
        summary |= asdict(chosen.weights) | {"weights_from": chosen.weights_from}
        write_json(stage.folder / OOV, _count_oov(stage, lm, data, found))
    seconds = {}
    for split, log_probs in data.items():
        started = time.perf_counter()
        texts = write_hypotheses(stage.folder, split, _decode(stage, lm, chosen, log_probs))
        seconds[split] = round(time.perf_counter() - started, 3)
        if split in (params.tune_on, "dev"):
            summary[split] = _compare(stage, log_probs, texts, chosen, found)
    write_json(stage.folder / TIMING, _timing(stage, folder, data, seconds))
    return summary | {"search_s": seconds, "warnings": found}


def _open(stage: Stage) -> "tuple[Path, dict[str, LogProbs]]":
    from hlas.decode.logprobs import index_path, read_log_probs

    folder = stage.one("logprobs").path.resolve()
    suffix = index_path(folder, "").name
    splits = sorted(path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}"))
    if not splits:
        raise UserError(str(folder), "no log-probs (<split>.index.jsonl)", "name a logprobs stage or such a folder")
    return folder, {split: read_log_probs(folder, split) for split in splits}


def _check_request(params: Params, stage: Stage, data: "dict[str, LogProbs]") -> list[str]:
    """Refuse what contradicts itself or cannot work, before any search; returns the warnings."""
    from hlas.decode.diagnosis import check_log_probs

    name, has_lm = stage.name, stage.optional("lm") is not None
    if has_lm and params.backend == "greedy":
        raise UserError(f"{name}.lm", "a greedy search reads no LM", "name a beam search: 'search: lm/beam_100.yaml'")
    if not has_lm and params.tune_on is not None:
        raise UserError(f"{name}.tune_on", "without an LM there is nothing to tune", "name an 'lm', or remove tune_on")
    if not has_lm and (params.alpha or params.beta):
        raise UserError(f"{name}.alpha, beta", "they weigh an LM, and there is none", "name an 'lm', or remove them")
    if params.tune_on is not None:
        rows = {split: [u.row for u in log_probs.utterances] for split, log_probs in data.items()}
        check_tuning_split(name, params.tune_on, rows, stage.log)
    warnings = [warning for split, d in data.items() for warning in check_log_probs(f"{d.folder}, {split}", d)]
    found: list[str] = []
    _warn(stage, dict.fromkeys(warnings), found)
    return found


def _warn(stage: Stage, warnings: Iterable[str], found: list[str]) -> None:
    """Log what was found out about the stage's inputs, and keep it for the summary."""
    for warning in warnings:
        stage.log.warning("%s: %s", stage.name, warning)
        found.append(warning)


def _find_lm(params: Params, stage: Stage, data: "dict[str, LogProbs]", found: list[str]) -> "LmFiles | None":
    """The LM's files; what is wrong with it for these labels is an error or joins `found`."""
    from hlas.decode.diagnosis import check_lm
    from hlas.lm.ngram import find_lm

    item = stage.optional("lm")
    lm = None if item is None else find_lm(item.path.resolve())
    if params.backend != "greedy":
        check_search(stage.name, params.options(), lm_unit=None if lm is None else lm.unit)
    if lm is not None and item is not None:
        vocabulary = next(iter(data.values())).vocabulary
        _warn(stage, check_lm(f"{stage.name}.lm: {item.label}", lm, vocabulary, stage.need_language()), found)
    return lm


def _choose(
    params: Params, stage: Stage, lm: "LmFiles | None", data: "dict[str, LogProbs]", found: list[str]
) -> _Chosen:
    """The weights and the width, given, tuned or by default."""
    from hlas.decode.diagnosis import check_tuned

    if lm is None:
        return _Chosen(NO_LM, "", params.options())
    if params.tune_on is not None:
        outcome = _tune(params, stage, lm, data[params.tune_on])
        best = outcome.chosen
        stage.log.info(
            "%s: alpha %g, beta %g: WER %.4f on %s, the best of %d points, %d of which were decoded",
            *(stage.name, best.weights.alpha, best.weights.beta, best.rates.wer, params.tune_on),
            *(len(outcome.table), outcome.decodes),
        )
        _warn(stage, check_tuned(outcome), found)
        write_json(stage.folder / TUNING, {"split": params.tune_on, **outcome.to_json()})
        return _Chosen(best.weights, f"tuned on {params.tune_on}", params.options(best.width), outcome)
    given = Weights(
        DEFAULT_WEIGHTS.alpha if params.alpha is None else params.alpha,
        DEFAULT_WEIGHTS.beta if params.beta is None else params.beta,
    )
    if params.alpha is None or params.beta is None:
        problem = "%s: alpha %g and beta %g are not tuned for this model: set tune_on: dev"
        stage.log.warning(problem, stage.name, given.alpha, given.beta)
        return _Chosen(given, "default", params.options())
    return _Chosen(given, "given", params.options())


def _tune(params: Params, stage: Stage, lm: "LmFiles", log_probs: "LogProbs") -> Tuned:
    from hlas.decode.search import make_search

    references = [u.row.text for u in log_probs.utterances]
    normalise = cache(stage.need_language().normalise)  # most points find the same text

    def decode(weights: Sequence[Weights], width: int) -> list[Rates]:
        options = replace(params.options(width), nbest=1, word_times=False)
        search = make_search(log_probs.folder, log_probs.split, lm, options, weights)
        label = f"tuning, {len(weights)} points of width {width}"
        found = track(search.run(len(references), stage.workers), label, len(references), "utt")
        texts = [[normalise(nbest[0].text) for nbest in at] for at in found]
        return [error_rates(references, [at[i] for at in texts]) for i in range(len(weights))]

    outcome = tune(params.grid, params.width, decode)
    return tune_width(outcome, params.grid.width, params.width, decode) if params.grid.width else outcome


def _decode(stage: Stage, lm: "LmFiles | None", chosen: _Chosen | None, log_probs: "LogProbs") -> Iterator[Hypothesis]:
    """The hypotheses of one split one by one, their audio paths relative to the stage's folder."""
    from hlas.decode.greedy import greedy_texts
    from hlas.decode.search import make_search

    normalise = stage.need_language().normalise
    home, total = stage.folder.resolve(), len(log_probs.utterances)
    rows = (rebase(u.row, log_probs.folder, home) for u in log_probs.utterances)
    label = f"decode {log_probs.split}"
    if chosen is None:
        texts = track(greedy_texts(log_probs), label, total, "utt")
        yield from (Hypothesis(row, normalise(text), text) for row, text in zip(rows, texts, strict=True))
        return
    search = make_search(log_probs.folder, log_probs.split, lm, chosen.options, (chosen.weights,))
    found = track(search.run(total, stage.workers), label, total, "utt")
    for row, (nbest,) in zip(rows, found, strict=True):
        yield _hypothesis(row, nbest, normalise)


def _hypothesis(row: Row, nbest: "NBest", normalise: Callable[[str], str]) -> Hypothesis:
    """The row with its n-best list: candidates in normalised text, of those that become equal the best."""
    unique: dict[str, Candidate] = {}
    for c in nbest:
        text = normalise(c.text)
        unique.setdefault(text, Candidate(text, round(c.logit_score, 4), round(c.lm_score, 4)))
    candidates = tuple(unique.values())
    best = candidates[0]
    return Hypothesis(row, best.text, nbest[0].text, candidates, best.logit_score, best.lm_score, nbest[0].words)


def _compare(
    stage: Stage, log_probs: "LogProbs", texts: Sequence[str], chosen: _Chosen | None, found: list[str]
) -> dict[str, float]:
    """Error rates on a split that may be looked at, and a warning where the search is worse than none."""
    from hlas.decode.diagnosis import explain_loss
    from hlas.decode.greedy import greedy_texts

    references = [u.row.text for u in log_probs.utterances]
    if not any(references):
        return {}
    rates = greedy = error_rates(references, texts)
    if chosen is not None:
        normalise = stage.need_language().normalise
        greedy = error_rates(references, [normalise(text) for text in greedy_texts(log_probs)])
    stage.log.info("%s: %s: WER %.4f, CER %.4f", stage.name, log_probs.split, rates.wer, rates.cer)
    if chosen is not None and rates.wer > greedy.wer:
        told = explain_loss(
            log_probs.split,
            rates.wer,
            greedy.wer,
            has_lm=bool(chosen.weights_from),
            tuned=chosen.tuned is not None,
            found=found,
        )
        stage.log.warning("%s: %s", stage.name, told)
    return _rates(rates, "") | _rates(greedy, "greedy_")


def _rates(rates: Rates, prefix: str) -> dict[str, float]:
    return {f"{prefix}{name}": value for name, value in asdict(rates).items()}


def _count_oov(stage: Stage, lm: "LmFiles", data: "dict[str, LogProbs]", found: list[str]) -> dict[str, dict[str, int]]:
    from hlas.decode.diagnosis import check_oov

    if lm.unit == "token":
        return {}  # tokens spell every word
    counts = count_oov(lm.words(), {split: [u.row.text for u in d.utterances] for split, d in data.items()})
    if "dev" in counts:
        _warn(stage, check_oov("dev", **counts["dev"]), found)
    return counts


def _timing(
    stage: Stage, folder: "Path", data: "dict[str, LogProbs]", search_s: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Seconds of acoustic model and search together."""
    acoustic = read_json(folder / TIMING) if (folder / TIMING).is_file() else {}
    if missing := [split for split in data if split not in acoustic]:
        stage.log.warning("%s: no time of the acoustic model for %s: no RTFx", stage.name, ", ".join(missing))
    return add_seconds(acoustic, {split: [u.row for u in d.utterances] for split, d in data.items()}, search_s)
