"""Tuning of alpha and beta on a grid of 100 points: what it costs, and what it loses against decoding every point.

Run: .venv/bin/python tools/bench/tuning.py [--utterances 60] [--pieces 0] [--width 100] [--rounds 3] [--workers 1]
     .venv/bin/python tools/bench/tuning.py --logprobs LOGPROBS --split dev --lm LM      (log-probs of a real model)

Times are ratios to one decode of the split at the chosen weights with 10-best lists, medians of interleaved rounds;
every point is decoded once, at the end.

  tuning     what a decode stage does: hlas.decode.tune
  n-best     for comparison: every point rescored from pooled 50-best lists of the grid's corners and of the points that
             then looked best, each decoded in turn, 8 at most (as in minimum error rate training, Och 2003)
  every      every point decoded; 'lost' is the WER of a method's choice less the best WER of these

'table' is how far the WER of the points that a method did not decode is from the WER of decoding them.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from synthetic_logprobs import NOISE, make_language, write_lm, write_splits

from hlas.decode.lm_score import LmScorer
from hlas.decode.logprobs import LogProbs, read_log_probs
from hlas.decode.search import NBest, SearchOptions, make_search
from hlas.decode.tune import Grid, Rates, Weights, error_rates, tune
from hlas.lm.ngram import LmFiles, find_lm

GRID = Grid(tuple(round(float(x), 3) for x in np.linspace(0.1, 1.9, 10)), tuple(map(float, np.linspace(-0.5, 4.0, 10))))
POOL_NBEST, POOL_DECODES = 50, 8


@dataclass(frozen=True)
class Case:
    """A split to tune on."""

    log_probs: LogProbs
    lm: LmFiles
    options: SearchOptions
    utterances: int
    workers: int

    @property
    def references(self) -> list[str]:
        """What was said."""
        return [u.row.text for u in self.log_probs.utterances[: self.utterances]]

    def search(self, weights: Sequence[Weights], *, width: int, nbest: int) -> list[tuple[NBest, ...]]:
        """The n-best lists of all utterances, one at each of the weights."""
        options = replace(self.options, width=width, nbest=nbest)
        search = make_search(self.log_probs.folder, self.log_probs.split, self.lm, options, weights)
        return list(search.run(self.utterances, self.workers))

    def decode(self, weights: Sequence[Weights], width: int) -> list[Rates]:
        """The error rates of a search with each of the weights."""
        found = self.search(weights, width=width, nbest=1)
        return [error_rates(self.references, [at[i][0].text for at in found]) for i in range(len(weights))]


@dataclass(frozen=True)
class Outcome:
    """What a method found."""

    chosen: Weights
    decoded: frozenset[Weights]
    wer: dict[Weights, float]  # of every point, decoded or estimated


def tuned(case: Case) -> Outcome:
    """The way of a decode stage."""
    found = tune(GRID, case.options.width, case.decode)
    decoded = frozenset(point.weights for point in found.table if point.redecoded)
    return Outcome(found.chosen.weights, decoded, {point.weights: point.rates.wer for point in found.table})


def pooled(case: Case) -> Outcome:
    """Rescoring from n-best lists: the score of a candidate is a line in alpha and beta."""
    points = GRID.points()
    axes = np.array([(1.0, w.alpha, w.beta) for w in points])
    scorer = LmScorer(case.lm, case.options.unk_score_offset)
    pools: list[dict[str, tuple[float, float, float]]] = [{} for _ in range(case.utterances)]
    wanted = [Weights(a, b) for a in (GRID.alpha[0], GRID.alpha[-1]) for b in (GRID.beta[0], GRID.beta[-1])]
    decoded: dict[Weights, float] = {}
    while True:
        found = case.search(wanted, width=case.options.width, nbest=POOL_NBEST)
        for i, weights in enumerate(wanted):
            decoded[weights] = error_rates(case.references, [at[i][0].text for at in found]).wer
            for pool, at in zip(pools, found, strict=True):
                for candidate in at[i]:
                    lm, words = scorer(candidate.text), float(len(candidate.text.split()))
                    rest = candidate.lm_score - weights.alpha * lm - weights.beta * words
                    known = pool.get(candidate.text)
                    pool[candidate.text] = (rest if known is None else max(rest, known[0]), lm, words)
        best_texts = []
        for pool in pools:
            texts = list(pool)
            best_texts.append([texts[i] for i in (axes @ np.array([pool[text] for text in texts]).T).argmax(axis=1)])
        wer = {
            w: decoded.get(w, error_rates(case.references, [at[i] for at in best_texts]).wer)
            for i, w in enumerate(points)
        }
        best = min(points, key=lambda w: (wer[w], w.alpha, w.beta))
        if best in decoded or len(decoded) == POOL_DECODES:
            return Outcome(min(decoded, key=lambda w: (decoded[w], w.alpha, w.beta)), frozenset(decoded), wer)
        wanted = [best]


def measure(name: str, case: Case, rounds: int) -> None:
    """Print one case's lines."""
    methods: dict[str, Callable[[Case], Outcome]] = {"tuning": tuned, "n-best": pooled}
    outcomes = {method: run(case) for method, run in methods.items()}  # loads and warms
    chosen = outcomes["tuning"].chosen
    seconds: dict[str, list[float]] = {method: [] for method in ("one", *methods)}
    for _ in range(rounds):
        started = time.perf_counter()
        case.search([chosen], width=case.options.width, nbest=10)
        seconds["one"].append(time.perf_counter() - started)
        for method, run in methods.items():
            started = time.perf_counter()
            run(case)
            seconds[method].append(time.perf_counter() - started)
    one = statistics.median(seconds["one"])
    started = time.perf_counter()
    every = dict(zip(GRID.points(), case.decode(GRID.points(), case.options.width), strict=True))
    all_s = time.perf_counter() - started
    best = min(every, key=lambda w: (every[w].wer, w.alpha, w.beta))
    print(f"{name}: {case.utterances} utterances, one decode {one:.3f} s ({1e3 * one / case.utterances:.2f} ms each)")
    at = f"alpha {best.alpha:g}, beta {best.beta:g}"
    print(f"  every   {all_s / one:6.1f}x  100 decodes  {at}: WER {every[best].wer:.4f}")
    for method, outcome in outcomes.items():
        w, ratio = outcome.chosen, statistics.median(seconds[method]) / one
        others = [point for point in every if point not in outcome.decoded]
        away = np.array([abs(outcome.wer[point] - every[point].wer) for point in others])
        print(
            f"  {method:7} {ratio:6.1f}x  {len(outcome.decoded):3} decodes  alpha {w.alpha:g}, beta {w.beta:g}: "
            f"WER {every[w].wer:.4f}, lost {every[w].wer - every[best].wer:.4f}; "
            f"table: mean {away.mean():.4f}, worst {away.max():.4f} away"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logprobs", type=Path, help="folder of a logprobs stage; without it, synthetic ones")
    parser.add_argument("--lm", type=Path, help="folder of an lm stage")
    parser.add_argument("--split", default="dev")
    parser.add_argument(
        "--utterances", type=int, default=60, help="of the synthetic ones; of real ones, at most so many"
    )
    parser.add_argument("--pieces", type=int, default=0, help="BPE pieces of the synthetic ones; 0 = characters")
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--backend", default="auto")
    args = parser.parse_args()
    options = SearchOptions(width=args.width, backend=args.backend)
    print(
        f"width {args.width}, {args.workers} process(es), median of {args.rounds} rounds; times as ratios to one decode"
    )
    if args.logprobs is not None:
        log_probs = read_log_probs(args.logprobs.resolve(), args.split)
        count = min(args.utterances, len(log_probs.utterances))
        measure(f"{args.split}", Case(log_probs, find_lm(args.lm.resolve()), options, count, args.workers), args.rounds)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        language = make_language(args.pieces, rng)
        lm = write_lm(folder / "lm", language.texts)
        write_splits(folder, language, args.utterances, rng)
        for split in NOISE:
            case = Case(read_log_probs(folder, split), lm, options, args.utterances, args.workers)
            measure(f"synthetic, {split}", case, args.rounds)


if __name__ == "__main__":
    main()
