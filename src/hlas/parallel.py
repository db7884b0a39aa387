"""All parallel work of the product goes through `map_chunks`: processes today, a cluster engine tomorrow."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers() -> int:
    """Number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chunked(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Consecutive lists of `size` items; the last may be shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def map_chunks(
    function: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    chunk_size: int = 16,
) -> Iterator[Result]:
    """Yield one result an item, in the order of the items.

    `function` takes a list of items and returns as many results. It is pickled, so it is a module-level
    function or a frozen dataclass with `__call__`; large data travels as a path, never as an array. With one
    worker everything runs in this process. An exception in `function` ends the map and is raised here.
    """
    workers = default_workers() if workers is None else workers
    chunks = list(chunked(items, chunk_size))
    if workers <= 1 or len(chunks) <= 1:
        for chunk in chunks:
            yield from _checked(function, chunk)
        return
    # spawn: a forked child of a process that runs torch's or numpy's threads can hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=context) as pool:
        futures = [pool.submit(_checked, function, chunk) for chunk in chunks]
        try:
            for future in futures:
                yield from future.result()
        finally:
            for future in futures:
                future.cancel()


def _checked(function: Callable[[Sequence[Item]], Sequence[Result]], chunk: Sequence[Item]) -> Sequence[Result]:
    results = function(chunk)
    if len(results) != len(chunk):
        raise ValueError(f"{function} returned {len(results)} results for {len(chunk)} items")
    return results
