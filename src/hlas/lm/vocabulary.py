"""The most frequent words of a text of any size, counted exactly: what a limited LM may know."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

MAX_TYPES = 2_000_000  # words counted in memory before they go to disk: some 200 MB


def most_frequent(text: Path, limit: int, scratch: Path) -> tuple[list[str], int]:
    """The `limit` most frequent words of a text (of equally frequent ones the first by code point), and all its types.

    The words come sorted by code point.
    """
    runs: list[Path] = []
    counts: Counter[str] = Counter()
    with text.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            counts.update(line.split())
            if len(counts) > MAX_TYPES:
                runs.append(_write_run(scratch / f"words.{len(runs)}", counts))
                counts.clear()
    types = 0

    def ranked() -> Iterator[tuple[int, str]]:
        nonlocal types
        merged = heapq.merge(*map(_read_run, runs), sorted(counts.items()), key=itemgetter(0))
        for word, entries in groupby(merged, key=itemgetter(0)):
            types += 1
            yield -sum(count for _, count in entries), word

    best = heapq.nsmallest(limit, ranked())
    for run in runs:
        run.unlink()
    return sorted(word for _, word in best), types


def _write_run(path: Path, counts: Counter[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{word} {count}\n" for word, count in sorted(counts.items()))
    return path


def _read_run(path: Path) -> Iterable[tuple[str, int]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            word, _, count = line.rpartition(" ")
            yield word, int(count)
