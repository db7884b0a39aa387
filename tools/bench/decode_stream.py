"""Memory of a search over ever more utterances, and greedy against merely reading. No data needed.

Run: .venv/bin/python tools/bench/decode_stream.py [--most 10000]

Each size runs in a process of its own, with one worker, so that its peak is its own. "own memory" is what the process
holds beside mapped files (Linux); the peak of everything includes the pages of log-probs that happen to be in memory,
which the system takes back when it needs them.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from synthetic_logprobs import NOISE, make_language, rows_of, write_lm

from hlas.decode.greedy import greedy_texts
from hlas.decode.logprobs import log_probs_writer, read_log_probs, write_vocabulary
from hlas.decode.search import SearchOptions, make_search
from hlas.decode.tune import Weights
from hlas.lm.ngram import find_lm

DISTINCT = 200  # utterances that are made; the larger splits repeat them


def own_memory_mib() -> float:
    """Anonymous memory of this process now; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("RssAnon"))


def stream(folder: Path, split: str) -> None:
    """Search one split and print what it took."""
    total = len(read_log_probs(folder, split).utterances)
    search = make_search(folder, split, find_lm(folder / "lm"), SearchOptions(nbest=10), (Weights(0.5, 1.5),))
    started, own = time.perf_counter(), 0.0
    for done, _ in enumerate(search.run(total, workers=1), 1):
        if done % 50 == 0:
            own = max(own, own_memory_mib())
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(
        f"  {total:6} utterances {seconds:8.2f} s {total / seconds:9.1f} utt/s   "
        f"own memory {own:6.1f} MiB, peak of everything {peak:6.1f} MiB",
        flush=True,
    )


def make_splits(folder: Path, sizes: list[int], pieces: int) -> None:
    """Peaky log-probs of one language, a split for each size."""
    rng = np.random.default_rng(0)
    language = make_language(pieces, rng)
    folder.mkdir()
    write_vocabulary(folder, language.vocabulary)
    write_lm(folder / "lm", language.texts)
    made = list(rows_of(language, DISTINCT, NOISE["peaky"], rng))
    for size in sizes:
        with log_probs_writer(folder, f"n{size}", len(language.vocabulary.tokens) + 1) as append:
            for i in range(size):
                append(*made[i % DISTINCT])


def median_s(run: Callable[[], object], rounds: int = 5) -> float:
    """Median seconds of a few runs after one that does not count."""
    seconds = []
    for number in range(rounds + 1):
        started = time.perf_counter()
        run()
        if number:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def greedy(folder: Path, split: str) -> None:
    """Greedy against reading every byte of the same log-probs once."""
    log_probs = read_log_probs(folder, split)
    frames = log_probs.frames()
    rows = [frames[u.first_frame : u.first_frame + u.frames] for u in log_probs.utterances]
    systems: dict[str, Callable[[], object]] = {
        "read": lambda: [row.view(np.uint16).max() for row in rows],
        "numpy argmax": lambda: [row.argmax(axis=1) for row in rows],
        "greedy": lambda: list(greedy_texts(log_probs)),
    }
    for name, run in systems.items():
        seconds = median_s(run)
        rate, bandwidth = len(rows) / seconds, frames.nbytes / seconds / 1e9
        print(f"  {frames.shape[1]:5} labels {name:13} {rate:10.1f} utt/s {bandwidth:7.2f} GB/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=10_000, help="utterances of the largest split")
    parser.add_argument("--stream", nargs=2, metavar=("FOLDER", "SPLIT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stream:
        stream(Path(args.stream[0]), args.stream[1])
        return
    sizes = [size for size in (100, 1000, 10_000, 100_000) if size <= args.most]
    with tempfile.TemporaryDirectory() as name:
        make_splits(Path(name) / "char", sizes, 0)
        make_splits(Path(name) / "bpe", [100], 1024)
        print("beam + LM, width 100, 10-best, one process:", flush=True)
        for size in sizes:
            subprocess.run([sys.executable, __file__, "--stream", str(Path(name) / "char"), f"n{size}"], check=True)
        print("greedy:")
        for unit in ("char", "bpe"):
            greedy(Path(name) / unit, f"n{sizes[0]}")


if __name__ == "__main__":
    main()
