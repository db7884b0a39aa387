"""Which rows make up which batch of which epoch: a function of the durations, the limits and (seed, epoch) alone.

Batches are global: in a training of several processes each takes its share of every batch, so that two processes with
batches of B see in each step what one process with batches of 2 B sees.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hlas.errors import UserError

Batch = list[int]  # positions of rows
Key = tuple[int, int]  # epoch and row: what a dataset needs to know to draw its augmentation
BUCKET_BATCHES = 4  # a bucket of similar lengths is worth at least so many batches, or it would hardly be shuffled


@dataclass(frozen=True)
class Limits:
    """How large one process's batch may be; at least one limit is set."""

    batch_size: int | None = None  # utterances
    batch_duration_s: float | None = None  # seconds, padding counted
    buckets: int = 30  # groups of similar length, where the duration is limited

    def __post_init__(self) -> None:
        """Refuse limits that no batch keeps."""
        if self.batch_size is None and self.batch_duration_s is None:
            raise UserError("train_ds", "neither batch_size nor batch_duration is set", "give one of them, or both")
        for name, limit in (("batch_size", self.batch_size), ("batch_duration", self.batch_duration_s)):
            if limit is not None and limit <= 0:
                raise UserError(f"train_ds.{name}", f"{limit} is not positive", "set it to what fits into memory")
        if self.buckets < 1:
            raise UserError("train_ds.num_buckets", f"{self.buckets} is less than 1", "1 or more")

    def utterances(self, longest_s: float) -> int:
        """How many clips of at most that length make a batch of one process."""
        sizes = [] if self.batch_size is None else [self.batch_size]
        if self.batch_duration_s is not None:
            sizes.append(int(self.batch_duration_s / longest_s))
        return min(sizes)


class TrainBatches:
    """The global batches of every epoch; their number is the same in all epochs.

    With a limit on the duration, rows are sorted into buckets of similar length and equal total duration; an epoch
    shuffles each bucket, cuts it into batches, and shuffles the batches of all buckets.
    """

    def __init__(
        self,
        durations_s: Sequence[float],
        limits: Limits,
        *,
        seed: int,
        ranks: int = 1,
        shuffle: bool = True,
        drop_last: bool = False,
    ) -> None:
        self.durations_s = np.asarray(durations_s, dtype=np.float64)
        self.seed, self.shuffle = seed, shuffle
        longest_s = float(self.durations_s.max())
        if limits.utterances(longest_s) < 1:
            raise UserError(
                f"train_ds.batch_duration {limits.batch_duration_s}",
                f"the longest clip has {longest_s:.1f} s and fits into no batch",
                "raise it, or leave long clips out with train_ds.max_duration",
            )
        self._buckets = self._sorted_into_buckets(limits)
        self._sizes = [ranks * limits.utterances(float(self.durations_s[rows].max())) for rows in self._buckets]
        self._drop_last = drop_last
        self._count = len(self.epoch(0))
        if not self._count:
            raise UserError("train_ds.drop_last", "not one batch is full", "set it to false, or batch_size lower")

    def __len__(self) -> int:
        return self._count

    def epoch(self, epoch: int) -> list[Batch]:
        """The batches of an epoch, in order."""
        rng = np.random.default_rng((self.seed, epoch))
        batches: list[Batch] = []
        for rows, size in zip(self._buckets, self._sizes, strict=True):
            order = rng.permutation(rows) if self.shuffle else rows
            cut = [order[start : start + size].tolist() for start in range(0, len(order), size)]
            batches += cut[:-1] if self._drop_last and len(cut[-1]) < size else cut
        if not self.shuffle:
            return batches
        batches = [batches[i] for i in rng.permutation(len(batches))]
        if epoch == 0 and batches:  # the largest comes first, so that a lack of memory shows at once
            batches.insert(0, batches.pop(max(range(len(batches)), key=lambda i: self.padded_s(batches[i]))))
        return batches

    def padded_s(self, batch: Batch) -> float:
        """Seconds of audio that a batch takes in memory."""
        return len(batch) * float(self.durations_s[batch].max())

    def _sorted_into_buckets(self, limits: Limits) -> list["np.ndarray[tuple[int], np.dtype[np.int64]]"]:
        if limits.batch_duration_s is None:
            return [np.arange(len(self.durations_s))]
        by_length = np.argsort(self.durations_s, kind="stable")
        ends_s = np.cumsum(self.durations_s[by_length])
        worth = int(ends_s[-1] / (BUCKET_BATCHES * limits.batch_duration_s))
        buckets = max(1, min(limits.buckets, worth)) if self.shuffle else 1
        cuts = np.searchsorted(ends_s, ends_s[-1] * np.arange(1, buckets) / buckets)
        return [rows for rows in np.split(by_length, cuts) if len(rows)]


def share(batch: Batch, rank: int, ranks: int) -> Batch:
    """One process's part of a global batch; a process that would get none takes a row of another."""
    return batch[rank::ranks] or [batch[rank % len(batch)]]


def dev_batches(durations_s: Sequence[float], limits: Limits, rank: int = 0, ranks: int = 1) -> list[Batch]:
    """One process's batches to validate on, by length; every row once, every process as many batches.

    With fewer rows than processes each takes them all, which leaves the rates as they are.
    """
    by_length = np.argsort(durations_s, kind="stable")
    rows = len(by_length)
    if rows < ranks:
        return [by_length.tolist()]
    least = max(rows / (limits.batch_size or rows), sum(durations_s) / (limits.batch_duration_s or np.inf), 1)
    for count in range(ranks * math.ceil(least / ranks), rows, ranks):
        parts = np.array_split(by_length, count)
        if all(len(part) <= max(1, limits.utterances(durations_s[part[-1]])) for part in parts):
            break
    else:
        parts = np.array_split(by_length, rows // ranks * ranks)
    return [part.tolist() for part in parts[rank::ranks]]


class BatchSampler:
    """What a DataLoader draws its batches from: keys (epoch, row). `epoch` is set before the epoch's iterator is made.

    Keys carry the epoch, as workers that live for the whole training have copies of the dataset from its start.
    """

    def __init__(self, batches_of: Callable[[int], Sequence[Batch]], count: int) -> None:
        self.epoch = 0
        self.batches_of, self._count = batches_of, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self.epoch
        return ([(epoch, row) for row in batch] for batch in self.batches_of(epoch))
