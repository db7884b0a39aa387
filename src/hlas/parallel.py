"""All parallel work of the product goes through `map_chunks`: processes today, a cluster engine tomorrow."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_AHEAD = 8  # chunks a worker that are made before they are asked for


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
    chunks = chunked(items, chunk_size)
    wanted = min(workers, -(-len(items) // chunk_size))
    if wanted <= 1:
        for chunk in chunks:
            yield from _checked(function, chunk)
        return
    # spawn: a forked child of a process that runs torch's or numpy's threads can hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(wanted, mp_context=context) as pool:
        # no more results wait than the workers need to stay busy: memory does not grow with the number of items
        ahead = deque(pool.submit(_checked, function, chunk) for chunk in islice(chunks, _AHEAD * wanted))
        try:
            while ahead:
                results = ahead.popleft().result()
                ahead.extend(pool.submit(_checked, function, chunk) for chunk in islice(chunks, 1))
                yield from results
        finally:
            for future in ahead:
                future.cancel()


def _checked(function: Callable[[Sequence[Item]], Sequence[Result]], chunk: Sequence[Item]) -> Sequence[Result]:
    results = function(chunk)
    if len(results) != len(chunk):
        raise ValueError(f"{function} returned {len(results)} results for {len(chunk)} items")
    return results
