"""Which of many sentences came before, found on disk: memory does not grow with the text."""

from collections.abc import Iterable
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

PARTS = 64
_ENTRY = np.dtype([("digest", "<u8"), ("position", "<i8")])


class Repeats:
    """Collects sentences, then says which of them are repeats.

    A digest of 64 bits and the position go to one of PARTS files, by the digest's first bits; a file is then sorted in
    memory on its own: 10^8 sentences take 1.6 GB of disk and 60 MB of memory. Of so many, two that differ share a
    digest with a chance of 0.03 % (n^2 / 2^65), and one of them would be lost.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = [folder / f"digests.{part}" for part in range(PARTS)]
        self._flags = folder / "repeats"
        self._count = 0
        self._open = ExitStack()
        self._files = [self._open.enter_context(path.open("wb")) for path in self._paths]

    def add(self, sentences: Iterable[str]) -> None:
        """Take the next sentences."""
        joined = b"".join(blake2b(s.encode(), digest_size=8).digest() for s in sentences)
        digests = np.frombuffer(joined, dtype="<u8")
        entries = np.empty(len(digests), _ENTRY)
        entries["digest"] = digests
        entries["position"] = np.arange(self._count, self._count + len(digests))
        self._count += len(digests)
        parts = digests >> np.uint64(64 - PARTS.bit_length() + 1)
        entries = entries[np.argsort(parts, kind="stable")]
        ends = np.cumsum(np.bincount(parts.astype(np.int64), minlength=PARTS))
        for file, own in zip(self._files, np.split(entries, ends[:-1]), strict=True):
            file.write(own.tobytes())

    def flags(self) -> npt.NDArray[np.bool_]:
        """For each sentence in the order given, whether an equal one came before; mapped from disk."""
        self._open.close()
        if not self._count:
            return np.zeros(0, bool)
        flags = np.memmap(self._flags, bool, "w+", shape=(self._count,))
        for path in self._paths:
            entries = np.fromfile(path, _ENTRY)
            entries = entries[np.argsort(entries["digest"], kind="stable")]  # positions rise within one digest
            again = entries["digest"][1:] == entries["digest"][:-1]
            flags[entries["position"][1:][again]] = True
            path.unlink()
        return flags
