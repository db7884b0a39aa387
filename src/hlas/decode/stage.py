"""Stage `decode`: log-probs -> hypotheses of every split, greedily or by a beam search with or without an LM."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hlas.decode.tune import Grid, Rates, Tuned, Weights, error_rates, tune
from hlas.errors import UserError, did_you_mean
from hlas.files import read_json, write_json
from hlas.manifests.rows import Candidate, Hypothesis, Row, rebase, write_rows
from hlas.manifests.rows_csv import write_hypotheses_csv
from hlas.progress import track
from hlas.stage import Stage, Summary

if TYPE_CHECKING:
    from hlas.decode.beam import BeamOptions, NBest
    from hlas.decode.logprobs import LogProbs
    from hlas.lm.ngram import LmFiles

DEFAULT_WEIGHTS = Weights(alpha=0.5, beta=1.5)  # pyctcdecode's
UNSPELLABLE_WARNING = 0.05  # share of the LM's words that the labels cannot spell


@dataclass(frozen=True)
class Params:
    """Keys of a search spec and of the stage; without a spec the search is greedy."""

    backend: Literal["greedy", "pyctcdecode"] = "greedy"
    width: int = 100  # prefixes kept at a frame
    beam_prune_logp: float = -10.0  # prefixes so much worse than the best one go (natural log)
    token_min_logp: float = -5.0  # labels less likely than this are tried only where they are a frame's best
    nbest: int = 10  # candidates written for each utterance
    unk_score_offset: float = -10.0  # added to the LM's score (log10) of a word that it does not know
    alpha: float | None = None  # weight of the LM; None: tuned, or 0.5
    beta: float | None = None  # bonus for each word, with an LM only; None: tuned, or 1.5
    tune_on: str | None = None  # split on which alpha and beta are chosen from the grid; never test
    grid: Grid = field(default_factory=Grid)

    def __post_init__(self) -> None:
        """Check the ranges, and that nothing is tuned on test."""
        if self.width < 1 or self.nbest < 1:
            raise ValueError("width and nbest are at least 1")
        if self.beam_prune_logp > 0 or self.token_min_logp > 0:
            raise ValueError("beam_prune_logp and token_min_logp are log probabilities: not above 0")
        if self.alpha is not None and self.alpha < 0:
            raise ValueError("alpha is not negative")
        if self.tune_on is not None and self.tune_on.startswith("test"):
            raise ValueError("tune_on names a test split, whose numbers would then mean nothing: tune on dev")
        if self.tune_on is not None and (self.alpha is not None or self.beta is not None):
            raise ValueError("alpha and beta are either given or tuned: remove tune_on, or both of them")


def run(params: Params, stage: Stage) -> Summary:
    """Write <split>.jsonl, <split>.csv and timing.json; with an LM oov.json; tuning.json where tuned."""
    from hlas.decode.logprobs import index_path, read_log_probs

    folder = stage.one("logprobs").path.resolve()
    suffix = index_path(folder, "").name
    splits = sorted(path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}"))
    if not splits:
        raise UserError(str(folder), "no log-probs (<split>.index.jsonl)", "name a logprobs stage or such a folder")
    _check_request(params, stage, splits)
    data = {split: read_log_probs(folder, split) for split in splits}
    lm = _find_lm(stage, data)
    summary: Summary = {"counts": {split: len(data[split].utterances) for split in splits}, "backend": params.backend}
    weights: Weights | None = None
    if lm is not None:
        weights, source, tuned = _choose_weights(params, stage, lm, data)
        summary |= asdict(weights) | {"weights_from": source}
        if tuned is not None:
            table = [point.to_json() for point in tuned.table]
            write_json(
                stage.folder / "tuning.json",
                {"split": params.tune_on, "chosen": tuned.chosen.to_json(), "table": table},
            )
        write_json(stage.folder / "oov.json", _count_oov(lm, data))

    seconds = {}
    for split in splits:
        started = time.perf_counter()
        hypotheses = _decode(params, stage, lm, weights, data[split])
        seconds[split] = round(time.perf_counter() - started, 3)
        write_rows(stage.folder / f"{split}.jsonl", hypotheses)
        write_hypotheses_csv(stage.folder / f"{split}.csv", hypotheses)
        if split in (params.tune_on, "dev"):
            summary[split] = _compare(stage, data[split], hypotheses)
    write_json(stage.folder / "timing.json", _timing(stage, folder, data, seconds))
    return summary | {"search_s": seconds}


def _check_request(params: Params, stage: Stage, splits: Sequence[str]) -> None:
    """Refuse what contradicts itself, before any work."""
    name, has_lm = stage.name, stage.optional("lm") is not None
    if has_lm and params.backend == "greedy":
        raise UserError(f"{name}.lm", "a greedy search reads no LM", "name a beam search: 'search: lm/beam_100.yaml'")
    if not has_lm and params.tune_on is not None:
        raise UserError(f"{name}.tune_on", "without an LM there is nothing to tune", "name an 'lm', or remove tune_on")
    if not has_lm and (params.alpha or params.beta):
        raise UserError(f"{name}.alpha, beta", "they weigh an LM, and there is none", "name an 'lm', or remove them")
    if params.tune_on is not None and params.tune_on not in splits:
        problem = f"no split '{params.tune_on}' in the log-probs"
        raise UserError(f"{name}.tune_on", problem, did_you_mean(params.tune_on, splits))


def _find_lm(stage: Stage, data: "dict[str, LogProbs]") -> "LmFiles | None":
    """The LM's files; an LM whose words the labels cannot spell is an error, as no hypothesis could hold one."""
    from hlas.decode.beam import spellable_share
    from hlas.lm.ngram import find_lm

    item = stage.optional("lm")
    if item is None:
        return None
    lm = find_lm(item.path.resolve())
    vocabulary = next(iter(data.values())).vocabulary
    unspellable = 1 - spellable_share(lm.words(), vocabulary)
    if unspellable == 1:
        raise UserError(
            f"{stage.name}.lm: {item.label}",
            "the model's labels spell none of the LM's words",
            "train both on one language's normalised text; labels: " + " ".join(vocabulary.tokens[:40]),
        )
    if unspellable > UNSPELLABLE_WARNING:
        stage.log.warning("%s: the labels cannot spell %.0f %% of the LM's words", stage.name, 100 * unspellable)
    return lm


def _choose_weights(
    params: Params, stage: Stage, lm: "LmFiles", data: "dict[str, LogProbs]"
) -> tuple[Weights, str, Tuned | None]:
    """The weights, where they come from, and the tuning if there was one."""
    if params.tune_on is not None:
        tuned = _tune(params, stage, lm, data[params.tune_on])
        best = tuned.chosen
        stage.log.info(
            "%s: alpha %g, beta %g: WER %.4f on %s, the best of %d points",
            *(stage.name, best.weights.alpha, best.weights.beta, best.rates.wer, params.tune_on, len(tuned.table)),
        )
        for name in tuned.at_edge:
            stage.log.warning("%s: the best %s is at the grid's edge: widen grid.%s", stage.name, name, name)
        return best.weights, f"tuned on {params.tune_on}", tuned
    given = Weights(
        DEFAULT_WEIGHTS.alpha if params.alpha is None else params.alpha,
        DEFAULT_WEIGHTS.beta if params.beta is None else params.beta,
    )
    if params.alpha is None or params.beta is None:
        problem = "%s: alpha %g and beta %g are not tuned for this model: set tune_on: dev"
        stage.log.warning(problem, stage.name, given.alpha, given.beta)
        return given, "default", None
    return given, "given", None


def _options(params: Params, nbest: int) -> "BeamOptions":
    from hlas.decode.beam import BeamOptions

    return BeamOptions(params.width, params.beam_prune_logp, params.token_min_logp, params.unk_score_offset, nbest)


def _tune(params: Params, stage: Stage, lm: "LmFiles", log_probs: "LogProbs") -> Tuned:
    from hlas.decode.beam import BeamSearch

    references = [u.row.text for u in log_probs.utterances]
    normalise = cache(stage.need_language().normalise)  # most points find the same text

    def evaluate(weights: Sequence[Weights]) -> list[Rates]:
        search = BeamSearch(log_probs.folder, log_probs.split, lm, _options(params, nbest=1), tuple(weights))
        found = search.run(len(references), stage.workers)
        label = f"tuning, {len(weights)} points"
        texts = [[normalise(nbest[0].text) for nbest in at] for at in track(found, label, len(references), "utt")]
        return [error_rates(references, [at[i] for at in texts]) for i in range(len(weights))]

    return tune(params.grid, evaluate)


def _decode(
    params: Params, stage: Stage, lm: "LmFiles | None", weights: Weights | None, log_probs: "LogProbs"
) -> list[Hypothesis]:
    """The hypotheses of one split, their audio paths relative to the stage's folder."""
    from hlas.decode.beam import NO_LM, BeamSearch
    from hlas.decode.greedy import greedy_texts

    normalise = stage.need_language().normalise
    home, total = stage.folder.resolve(), len(log_probs.utterances)
    rows = [rebase(u.row, log_probs.folder, home) for u in log_probs.utterances]
    label = f"decode {log_probs.split}"
    if params.backend == "greedy":
        texts = track(greedy_texts(log_probs), label, total, "utt")
        return [Hypothesis(row, normalise(text), text) for row, text in zip(rows, texts, strict=True)]
    search = BeamSearch(log_probs.folder, log_probs.split, lm, _options(params, params.nbest), (weights or NO_LM,))
    found = track(search.run(total, stage.workers), label, total, "utt")
    return [_hypothesis(row, nbest, normalise) for row, (nbest,) in zip(rows, found, strict=True)]


def _hypothesis(row: Row, nbest: "NBest", normalise: Callable[[str], str]) -> Hypothesis:
    """The row with its n-best list: candidates in normalised text, of those that become equal the best."""
    unique: dict[str, Candidate] = {}
    for c in nbest:
        text = normalise(c.text)
        unique.setdefault(text, Candidate(text, round(c.logit_score, 4), round(c.lm_score, 4)))
    candidates = tuple(unique.values())
    best = candidates[0]
    return Hypothesis(row, best.text, nbest[0].text, candidates, best.logit_score, best.lm_score)


def _compare(stage: Stage, log_probs: "LogProbs", hypotheses: Sequence[Hypothesis]) -> dict[str, float]:
    """Error rates on a split that may be looked at, and a warning where the search is worse than none."""
    from hlas.decode.greedy import greedy_texts

    references = [h.row.text for h in hypotheses]
    if not any(references):
        return {}
    normalise = stage.need_language().normalise
    rates = error_rates(references, [h.pred_text for h in hypotheses])
    greedy = error_rates(references, [normalise(text) for text in greedy_texts(log_probs)])
    stage.log.info("%s: %s: WER %.4f, CER %.4f", stage.name, log_probs.split, rates.wer, rates.cer)
    if rates.wer > greedy.wer:
        problem = (
            "%s: %s: the search is worse than greedy (WER %.4f): is the LM of this language, are its weights tuned?"
        )
        stage.log.warning(problem, stage.name, log_probs.split, greedy.wer)
    return asdict(rates) | {"greedy_wer": greedy.wer, "greedy_cer": greedy.cer}


def _count_oov(lm: "LmFiles", data: "dict[str, LogProbs]") -> dict[str, dict[str, int]]:
    """Reference words of each split, and how many of them the LM does not know and so can hardly be found."""
    known = set(lm.words())
    counts = {}
    for split, log_probs in data.items():
        words = [word for u in log_probs.utterances for word in u.row.text.split()]
        counts[split] = {"words": len(words), "oov_words": sum(word not in known for word in words)}
    return counts


def _timing(
    stage: Stage, folder: Path, data: "dict[str, LogProbs]", search_s: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Seconds of acoustic model and search together; a split whose acoustic seconds are unknown is left out."""
    path = folder / "timing.json"
    acoustic = read_json(path) if path.is_file() else {}
    if missing := [split for split in data if split not in acoustic]:
        stage.log.warning("%s: no time of the acoustic model for %s: no RTFx", stage.name, ", ".join(missing))
    return {
        split: {
            "audio_s": round(sum(u.row.duration for u in log_probs.utterances), 3),
            "seconds": round(acoustic[split]["seconds"] + search_s[split], 3),
        }
        for split, log_probs in data.items()
        if split in acoustic
    }
