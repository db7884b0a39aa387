"""Seconds to score 100,000 utterances of 5 systems: rates, intervals, tests, breakdowns, confusions; needs no data.

Run: .venv/bin/python tools/bench/scoring.py [--utterances 100000] [--systems 5] [--workers 2] [--peer 4000]

The peer is what a script of jiwer and numpy does: jiwer.process_words and process_characters, sacrebleu's BLEU and
chrF, and a loop that draws the utterances of each of 1000 resamples. It takes the first --peer utterances of one system
and its time is scaled up, once before and once after ours, so that other load on the machine hits both alike. It
computes neither raw rates nor breakdowns nor tests.
"""

import argparse
import resource
import statistics
import time
from pathlib import Path

import numpy as np

from hlas.manifests.rows import Hypothesis, Row
from hlas.report.evaluate import SplitResult, evaluate
from hlas.report.systems import System

RESAMPLES = 1000


def make_rows(utterances: int, rng: np.random.Generator) -> list[Row]:
    """Sentences of a 5000-word language with Zipf's frequencies, read by 500 speakers."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(5000)])
    p = 1 / np.arange(1, len(words) + 1)
    drawn = rng.choice(words, (utterances, 14), p=p / p.sum())
    lengths = rng.integers(4, 15, utterances)
    rows = []
    for i, (sentence, length) in enumerate(zip(drawn, lengths, strict=True)):
        text = " ".join(sentence[:length])
        speaker = int(rng.integers(500))
        rows.append(
            Row(
                f"clips/{i}.wav",
                0.35 * float(length) + float(rng.random()),
                text,
                raw_text=text.capitalize() + ".",
                speaker=f"speaker{speaker}",
                gender=("female", "male", "")[speaker % 3],
                age=("twenties", "thirties", "")[speaker % 3],
                accents=f"accent {speaker % 7}",
            )
        )
    return rows


def hear(rows: list[Row], error: float, rng: np.random.Generator) -> tuple[Hypothesis, ...]:
    """Each word is misspelt, dropped or doubled with the given probability."""
    out = []
    for row in rows:
        heard = []
        for word, dice in zip(row.text.split(), rng.random(14), strict=False):
            if dice >= error:
                heard.append(word)
            elif dice < 0.7 * error:
                heard.append(word[:-1] + "x")
            elif dice > 0.85 * error:
                heard += [word, word]
        text = " ".join(heard)
        out.append(Hypothesis(row, text, text))
    return tuple(out)


def peer(hypotheses: tuple[Hypothesis, ...], total: int, systems: int) -> float:
    """Seconds of the script for all utterances and systems, from those given."""
    import jiwer
    import sacrebleu

    refs, hyps = [h.row.text for h in hypotheses], [h.pred_text or "-" for h in hypotheses]
    started = time.perf_counter()
    words = jiwer.process_words(refs, hyps)
    jiwer.process_characters(refs, hyps)
    sacrebleu.corpus_bleu(hyps, [refs], tokenize="none", force=True)
    sacrebleu.corpus_chrf(hyps, [refs])
    errors = np.array([sum(c.type != "equal" for c in chunks) for chunks in words.alignments])
    counts = np.array([len(ref.split()) for ref in refs])
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(refs), len(refs)) for _ in range(RESAMPLES)]
    np.percentile([errors[draw].sum() / counts[draw].sum() for draw in draws], [2.5, 97.5])
    return (time.perf_counter() - started) * total / len(refs) * systems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=100_000)
    parser.add_argument("--systems", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--peer", type=int, default=4000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = make_rows(args.utterances, rng)
    systems = [
        System(f"system{i}", "other", Path(), None, (), {"test": hear(rows, 0.05 + 0.05 * i, rng)})
        for i in range(args.systems)
    ]
    middle = systems[len(systems) // 2].splits["test"][: args.peer]
    before = peer(middle, args.utterances, args.systems)
    started = time.perf_counter()
    (result,) = evaluate(systems, "system0", RESAMPLES, 0, workers=args.workers)
    seconds = time.perf_counter() - started
    after = peer(middle, args.utterances, args.systems)
    report(result, seconds, statistics.mean([before, after]), args.workers)


def report(result: SplitResult, seconds: float, peer_s: float, workers: int) -> None:
    score = result.systems[0].score
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    groups = sum(len(b.groups) for b in result.analysis.breakdowns)
    print(f"{score.utterances} utterances x {len(result.systems)} systems, {workers} processes: {seconds:.1f} s")
    print(f"  {len(result.comparisons)} comparisons, {len(result.analysis.breakdowns)} breakdowns of {groups} groups")
    print(f"  intervals over {result.units.count} {result.units.kind}s, {result.resamples} resamples")
    print(f"  jiwer, sacrebleu and a numpy loop (estimated): {peer_s:.1f} s, {peer_s / seconds:.1f}x")
    print(f"  at most {memory:.1f} GiB in the main process")


if __name__ == "__main__":
    main()
