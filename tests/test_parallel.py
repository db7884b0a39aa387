"""map_chunks: order, errors and laziness, in this process and in two."""

from collections.abc import Iterator

import pytest

from hlas.parallel import chunked, map_chunks


@pytest.mark.parametrize("workers", [1, 2])
def test_results_keep_the_order_of_the_items(workers: int) -> None:
    items = list(range(100, 0, -1))
    found = list(map_chunks(sorted, items, workers=workers, chunk_size=3))
    assert found == [item for chunk in chunked(items, 3) for item in sorted(chunk)]
    assert list(map_chunks(sorted, [], workers=workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_is_raised_here(workers: int) -> None:
    with pytest.raises(TypeError, match="not supported between"):
        list(map_chunks(sorted, [1, 2, 3, "four", 5, 6], workers=workers, chunk_size=2))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_lost_result_is_an_error(workers: int) -> None:
    with pytest.raises(ValueError, match="1 results for 2 items"):
        list(map_chunks(set, [1, 2, 3, 3], workers=workers, chunk_size=2))  # type: ignore[arg-type]  # what must not be


def test_few_chunks_are_made_ahead() -> None:
    class Counting(list[int]):
        taken = 0

        def __iter__(self) -> Iterator[int]:
            for item in super().__iter__():
                self.taken += 1
                yield item

    items = Counting(range(10_000))
    results = map_chunks(sorted, items, workers=2, chunk_size=10)
    assert next(results) == 0
    assert items.taken < 1_000
    results.close()  # type: ignore[attr-defined]  # a generator, whatever its annotation
