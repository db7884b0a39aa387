"""Utterances a second of greedy, beam and beam + LM on synthetic log-probs, peaky and noisy; no data needed.

Run: .venv/bin/python tools/bench/decode.py [--utterances 30] [--width 100] [--rounds 3] [--workers 1]

"Noisy" is what a weak model gives and the case that matters: on peaky log-probs most labels are pruned, and the width
hardly counts. Rounds are interleaved and medians taken, so that other load on the machine hits all systems alike.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hlas.decode.beam import NO_LM, BeamOptions, BeamSearch
from hlas.decode.greedy import greedy_texts
from hlas.decode.logprobs import Array, Vocabulary, log_probs_writer, read_log_probs, write_vocabulary
from hlas.decode.tune import Weights
from hlas.lm import ngram
from hlas.manifests.rows import Row

VOCABULARY = Vocabulary((*"abcdefghijklmnopqrstuvwxyzäöüčšž", " "), "char", 0.02)
FRAMES_A_CHARACTER = 3
NOISE = {"peaky": 1.0, "noisy": 2.4}  # standard deviation of the noise on logits whose true label stands 9 above


def sentences(count: int, rng: np.random.Generator) -> list[str]:
    """Random sentences of a 5000-word language with Zipf's frequencies."""
    letters = np.array(VOCABULARY.tokens[:-1])
    words = ["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(5000)]
    p = 1 / np.arange(1, len(words) + 1)
    return [" ".join(rng.choice(words, rng.integers(5, 12), p=p / p.sum())) for _ in range(count)]


def frames(text: str, noise: float, rng: np.random.Generator) -> Array:
    """Log-probs in which each character is one frame and blanks follow."""
    labels = np.full(FRAMES_A_CHARACTER * len(text), VOCABULARY.blank)
    labels[::FRAMES_A_CHARACTER] = [VOCABULARY.tokens.index(c) for c in text]
    logits = rng.normal(scale=noise, size=(len(labels), VOCABULARY.blank + 1))
    logits[np.arange(len(labels)), labels] += 9
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))  # type: ignore[no-any-return]


def make_data(folder: Path, utterances: int) -> ngram.LmFiles:
    """Write the log-probs of both splits and an LM of text of the same language."""
    rng = np.random.default_rng(0)
    texts = sentences(20_000, rng)
    write_vocabulary(folder, VOCABULARY)
    for split, noise in NOISE.items():
        with log_probs_writer(folder, split, VOCABULARY.blank + 1) as append:
            for i, text in enumerate(texts[:utterances]):
                append(Row(f"{i}.wav", 1.0, text), frames(text, noise, rng))
    kenlm = ngram.find_kenlm()
    (folder / "text").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    arpa = ngram.lm_file(folder, "arpa")
    ngram.count_ngrams(kenlm, folder / "text", arpa, order=3)
    ngram.build_binary(kenlm, arpa, ngram.lm_file(folder, "binary"))
    ngram.write_words(ngram.lm_file(folder, "unigrams"), ngram.read_words(arpa))
    return ngram.find_lm(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=30)
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    options = BeamOptions(width=args.width)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lm = make_data(folder, args.utterances)

        def beam(split: str, lm: ngram.LmFiles | None, weights: Weights) -> Callable[[], object]:
            search = BeamSearch(folder, split, lm, options, (weights,))
            return lambda: list(search.run(args.utterances, args.workers))

        print(f"width {args.width}, {args.workers} process(es), median of {args.rounds}: utterances/s (ratio to beam)")
        for split in NOISE:
            log_probs = read_log_probs(folder, split)
            systems: dict[str, Callable[[], object]] = {
                "greedy": lambda log_probs=log_probs: list(greedy_texts(log_probs)),
                "beam": beam(split, None, NO_LM),
                "beam + LM": beam(split, lm, Weights(0.5, 1.5)),
            }
            seconds: dict[str, list[float]] = {system: [] for system in systems}
            for round_number in range(args.rounds + 1):
                for system, run in systems.items():
                    started = time.perf_counter()
                    run()
                    if round_number:  # the first loads the LM
                        seconds[system].append(time.perf_counter() - started)
            rate = {system: args.utterances / statistics.median(s) for system, s in seconds.items()}
            for system, value in rate.items():
                print(f"  {split:6} {system:10} {value:9.1f}  ({value / rate['beam']:.2f}x)")


if __name__ == "__main__":
    main()
