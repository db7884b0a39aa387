"""Beam search on one and on two processes, against pyctcdecode as it comes; agreement and WER. No data needed.

Run: .venv/bin/python tools/bench/decode.py [--utterances 200] [--width 100] [--rounds 3] [--pieces 1024]
     .venv/bin/python tools/bench/decode.py --folder LOGPROBS --split dev --lm LM      (log-probs of a real model)

Rounds are interleaved and medians taken, so that other load on the machine hits all systems alike; ratios matter.

  pyctcdecode   as a user meets it: build_ctcdecoder, decode_beams
  mended        hlas's backend 'pyctcdecode': the word start '▁' on its own no longer breaks other beams
                (force_next_break), and a space at the end no longer counts as an unknown word;
                "without …" takes one of the two mends back
  fast          hlas's C++ backend, the same search
  2 processes   pyctcdecode's decode_batch with a fork pool of two that is already there, against hlas's own two, to
                which log-probs travel as a memory map; with and without the time in which these two start
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyctcdecode.decoder
from pyctcdecode.language_model import LanguageModel
from synthetic_logprobs import NOISE, make_language, write_lm, write_splits

from hlas.decode.beam import THEIR_MERGE_BEAMS, ReferenceSearch
from hlas.decode.logprobs import Array, LogProbs, read_log_probs
from hlas.decode.search import BackendName, SearchOptions, make_search, open_backend
from hlas.decode.tune import Weights, error_rates
from hlas.lm.ngram import LmFiles, find_lm
from hlas.parallel import map_chunks

WEIGHTS = Weights(0.5, 1.5)  # pyctcdecode's
MANY = 20  # times that two processes get each utterance


@dataclass(frozen=True)
class Case:
    """Log-probs to search."""

    name: str
    log_probs: LogProbs
    lm: LmFiles
    utterances: int
    width: int

    @property
    def arrays(self) -> list[Array]:
        """The utterances' frames."""
        frames = self.log_probs.frames()
        return [frames[u.first_frame : u.first_frame + u.frames] for u in self.log_probs.utterances[: self.utterances]]

    @property
    def references(self) -> list[str]:
        """What was said."""
        return [u.row.text for u in self.log_probs.utterances[: self.utterances]]


def interleaved(systems: dict[str, Callable[[], list[str]]], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Median seconds and last result of each system; the first round, which loads and warms, does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    results = {}
    for number in range(rounds + 1):
        for name, run in systems.items():
            started = time.perf_counter()
            results[name] = run()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}, results


def as_it_comes(case: Case) -> Any:
    """The decoder as its documentation builds it."""
    labels = list(case.log_probs.vocabulary.tokens)
    return pyctcdecode.build_ctcdecoder([*labels, ""], str(case.lm.model), case.lm.words())


@contextmanager
def their_merge() -> Iterator[None]:
    """Pyctcdecode's own merging of beams, which hlas.decode.beam replaces."""
    ours, pyctcdecode.decoder._merge_beams = pyctcdecode.decoder._merge_beams, THEIR_MERGE_BEAMS
    try:
        yield
    finally:
        pyctcdecode.decoder._merge_beams = ours


def unmended(decoder: Any, arrays: Sequence[Array], width: int) -> list[str]:
    """Its texts, by its own code throughout."""
    with their_merge():
        return [decoder.decode_beams(a.astype(np.float64), beam_width=width)[0][0] for a in arrays]


def backend_texts(case: Case, backend: BackendName) -> Callable[[], list[str]]:
    """A run of one of hlas's backends in this process."""
    options = SearchOptions(backend=backend, width=case.width)
    search = open_backend(case.log_probs.vocabulary, case.lm, options)
    return lambda: [nbest[0].text for array in case.arrays for (nbest,) in search.decode([array], [WEIGHTS])]


def one_process(case: Case, rounds: int) -> None:
    """Speed, agreement and WER."""
    decoder = as_it_comes(case)
    systems: dict[str, Callable[[], list[str]]] = {
        "pyctcdecode": lambda: unmended(decoder, case.arrays, case.width),
        "mended": backend_texts(case, "pyctcdecode"),
        "fast": backend_texts(case, "fast"),
    }
    seconds, texts = interleaved(systems, rounds)
    for name, taken in seconds.items():
        same = sum(a == b for a, b in zip(texts[name], texts["mended"], strict=True)) / case.utterances
        wer = error_rates(case.references, texts[name]).wer
        print(
            f"  {case.name:12} {name:12} {case.utterances / taken:8.1f} utt/s  {seconds['pyctcdecode'] / taken:6.2f}x"
            f"   1-best as mended {100 * same:6.2f} %   WER {100 * wer:.2f} %"
        )


def partly_mended(case: Case, without: str) -> None:
    """Agreement and WER of the mended search less one of its mends."""
    search = ReferenceSearch(case.log_probs.vocabulary, case.lm, SearchOptions(width=case.width))
    if without == "'▁' mend":
        search._decoder._idx2vocab = {i: str(label) for i, label in search._decoder._idx2vocab.items()}
    else:
        search._decoder._language_model.__class__ = LanguageModel
    whole = backend_texts(case, "fast")()
    with their_merge():  # of a text's beams it keeps the one that ends in a space, which is where that fault bites
        texts = [nbest[0].text for array in case.arrays for (nbest,) in search.decode([array], [WEIGHTS])]
    same = sum(a == b for a, b in zip(texts, whole, strict=True)) / case.utterances
    wer = error_rates(case.references, texts).wer
    name = f"mended, without {without}"
    print(f"  {case.name:12} {name:36} 1-best as mended {100 * same:6.2f} %   WER {100 * wer:.2f} %")


def two_processes(case: Case, rounds: int) -> None:
    """The two processes of hlas against pyctcdecode's; hlas's get each utterance many times, as they are so fast."""
    decoder = as_it_comes(case)
    arrays = [a.astype(np.float32) for a in case.arrays]
    options = SearchOptions(backend="fast", width=case.width)
    search = make_search(case.log_probs.folder, case.log_probs.split, case.lm, options, (WEIGHTS,))

    def ours(times: int) -> list[str]:
        found = map_chunks(search, list(range(case.utterances)) * times, workers=2, chunk_size=16)
        return [nbest[0].text for (nbest,) in found]

    with their_merge(), multiprocessing.get_context("fork").Pool(2) as pool:
        systems: dict[str, Callable[[], list[str]]] = {
            "pool": lambda: decoder.decode_batch(pool, arrays, beam_width=case.width),
            "many": lambda: ours(MANY),
            "few": lambda: ours(1),
        }
        seconds, _ = interleaved(systems, rounds)
    pool_rate = case.utterances / seconds["pool"]
    running = (MANY - 1) * case.utterances / (seconds["many"] - seconds["few"])
    whole = MANY * case.utterances / seconds["many"]
    print(
        f"  {case.name:12} 2 processes: pyctcdecode {pool_rate:.1f} utt/s; fast {running:.1f} utt/s "
        f"({running / pool_rate:.2f}x), {whole:.1f} utt/s ({whole / pool_rate:.2f}x) with the start of the processes, "
        f"over {MANY * case.utterances} utterances"
    )


def synthetic(folder: Path, pieces: int, utterances: int, width: int) -> list[Case]:
    """Cases of a random language, in characters and in pieces, noisy and peaky."""
    cases = []
    for unit, count in (("char", 0), ("bpe", pieces)):
        rng = np.random.default_rng(0)
        language = make_language(count, rng)
        write_splits(folder / unit, language, utterances, rng)
        lm = write_lm(folder / unit / "lm", language.texts)
        cases += [
            Case(f"{unit} {split}", read_log_probs(folder / unit, split), lm, utterances, width)
            for split in reversed(NOISE)
        ]
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pieces", type=int, default=1024, help="size of the BPE vocabulary")
    parser.add_argument("--folder", type=Path, help="log-probs of a real model instead of synthetic ones")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--lm", type=Path, help="folder of its LM")
    args = parser.parse_args()
    print(f"width {args.width}, word 3-gram, alpha {WEIGHTS.alpha}, beta {WEIGHTS.beta}, median of {args.rounds}")
    with tempfile.TemporaryDirectory() as name:
        if args.folder:
            log_probs = read_log_probs(args.folder, args.split)
            count = min(args.utterances, len(log_probs.utterances))
            cases = [Case(args.split, log_probs, find_lm(args.lm), count, args.width)]
        else:
            cases = synthetic(Path(name), args.pieces, args.utterances, args.width)
        for case in cases:
            one_process(case, args.rounds)
            for without in ("'▁' mend",) * (case.log_probs.vocabulary.unit == "bpe") + ("end mend",):
                partly_mended(case, without)
        for case in cases:
            two_processes(case, 1)


if __name__ == "__main__":
    main()
