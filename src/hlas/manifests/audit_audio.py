"""Recordings that stand twice in a corpus, found by the bytes of their files.

Bytes, not decoded samples: clips that the manifests stage writes have one form, so that equal sound is equal bytes, and
hashing is far cheaper than decoding. Of MP3 files that were kept as they are, copies are found, other encodings not.

Each file is opened once for its size and 4 KiB from its middle; only files that agree in both are read whole.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hlas.files import sha256_file
from hlas.parallel import map_chunks

if TYPE_CHECKING:
    import polars as pl

PROBE_BYTES = 4096
CHUNK = 4096  # files a worker takes at a time: a smaller corpus is not worth a second process


@dataclass(frozen=True, slots=True)
class Copy:
    """One of several rows with the same audio."""

    split: str
    clip: str
    text: str


@dataclass(frozen=True, slots=True)
class DuplicateAudio:
    """Groups of rows whose audio is the same."""

    files: int  # that were compared
    unreadable: int
    groups: int
    surplus: int  # rows beyond the first of each group
    across_splits: int  # groups that stand in more than one split
    different_text: int  # groups whose transcripts differ: all but one are wrong
    examples: tuple[tuple[Copy, ...], ...]  # groups across splits first, then those of different text

    @property
    def shown(self) -> str:
        """One line for the log."""
        unread = f", {self.unreadable} could not be read" if self.unreadable else ""
        return f"duplicate audio: {self.surplus} of {self.files} files stand twice{unread}"

    @property
    def warnings(self) -> list[str]:
        """What a user should act on."""
        found = ((self.across_splits, "in more than one split"), (self.different_text, "with different transcripts"))
        first = " = ".join(f"{c.split} {c.clip}" for c in self.examples[0][:2]) if self.examples else ""
        return [f"{count} recordings stand {how}, e.g. {first}" for count, how in found if count]


def find_duplicates(table: "pl.DataFrame", folder: Path, workers: int, max_examples: int) -> DuplicateAudio:
    """Compare the audio of all rows; rows that are parts of a file are the same where file, offset and length are.

    `table` has a line a row, with the columns split, audio_filepath, offset, duration_s and text.
    """
    import polars as pl

    files = table["audio_filepath"].unique(maintain_order=True)
    probed = list(map_chunks(_Probe(folder), files.to_list(), workers=workers, chunk_size=CHUNK))
    probes = pl.Series(probed, dtype=pl.String)
    suspects = files.filter(probes.is_duplicated() & (probes != ""))
    hashes = list(map_chunks(_Whole(folder), suspects.to_list(), workers=workers, chunk_size=CHUNK))
    contents = pl.DataFrame({"audio_filepath": suspects, "content": pl.Series(hashes, dtype=pl.String)})
    # a file that no other is like stands for itself: its rows can still be the same part of it
    content = pl.coalesce("content", "audio_filepath")
    length = pl.when(pl.col("offset").is_not_null()).then("duration_s")
    rows = table.join(contents, on="audio_filepath", how="left", maintain_order="left")
    rows = rows.with_columns(part=pl.struct(content, "offset", length.alias("length")))
    groups = rows.filter(pl.col("part").is_duplicated()).group_by("part", maintain_order=True)
    copies = groups.agg(
        pl.struct("split", "text", clip="audio_filepath").alias("rows"),
        across=pl.col("split").n_unique() > 1,
        differ=pl.col("text").n_unique() > 1,
    ).sort("across", "differ", descending=True, maintain_order=True)
    return DuplicateAudio(
        files=len(files),
        unreadable=probed.count(""),
        groups=copies.height,
        surplus=sum(map(len, copies["rows"])) - copies.height,
        across_splits=int(copies["across"].sum()),
        different_text=int(copies["differ"].sum()),
        examples=tuple(tuple(Copy(**row) for row in group) for group in copies["rows"].head(max_examples)),
    )


@dataclass(frozen=True, slots=True)
class _Probe:
    """Size and a hash of the middle of files; '' for one that cannot be read."""

    folder: Path

    def __call__(self, files: Sequence[str]) -> list[str]:
        return [self._probe(self.folder / file) for file in files]

    def _probe(self, path: Path) -> str:
        try:
            with path.open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, (size - PROBE_BYTES) // 2))
                return f"{size}-{hashlib.blake2b(file.read(PROBE_BYTES), digest_size=16).hexdigest()}"
        except OSError:
            return ""


@dataclass(frozen=True, slots=True)
class _Whole:
    """Hashes of whole files."""

    folder: Path

    def __call__(self, files: Sequence[str]) -> list[str]:
        return [sha256_file(self.folder / file) for file in files]
