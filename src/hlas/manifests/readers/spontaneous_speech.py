"""A release of Common Voice's Spontaneous Speech as a corpus: one table whose column `split` makes the parts.

People answer questions in their own words, so transcripts hold tags such as [noise]: the key `tags` of a spec says what
becomes of them. `votes` are about the transcript and not for or against it: they are not read.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hlas.errors import UserError
from hlas.manifests.corpus import MOST_SECONDS, schema
from hlas.manifests.readers.common_voice import clip_names
from hlas.manifests.readers.release import Layout, Release, find_release
from hlas.manifests.readers.tables import Column, read_tsv

LAYOUT = Layout(
    name="Spontaneous Speech",
    marks=r"ss-corpus-[^/]+\.tsv",
    extras=r"",
    audio="audios",
    example="ss-corpus-<locale>.tsv",
)
UNASSIGNED = "unassigned"  # rows whose transcript nobody has confirmed
_COLUMNS = {
    "clip": Column(("audio_file",), needed=True),
    "sentence": Column(("transcription",), needed=True),
    "part": Column(("split",)),
    "milliseconds": Column(("duration_ms",)),
    "speaker": Column(("client_id",)),
    "gender": Column(("gender",)),
    "age": Column(("age",)),
    "accents": Column(("accents",)),
    "variant": Column(("variant",)),
}


@dataclass(frozen=True, slots=True)
class SpontaneousSpeech:
    """An opened release; a `corpus.Corpus`."""

    release: Release
    rows: pl.DataFrame  # of all parts: the columns of corpus.schema and `part`

    @property
    def label(self) -> str:
        """How the user named it."""
        return self.release.label

    @property
    def tables(self) -> Collection[str]:
        """The parts there are."""
        return self.rows["part"].unique(maintain_order=True).to_list()

    @property
    def audio(self) -> Path:
        """Folder of the recordings."""
        return self.release.audio

    def read(self, table: str) -> pl.DataFrame:
        """All rows of a part."""
        return self.rows.filter(part=table).select(*schema())

    def fetch(self, files: Collection[str]) -> None:
        """Unpack the named recordings, if the release is an archive."""
        self.release.fetch(files)


def open_corpus(path: Path, scratch: Path) -> SpontaneousSpeech:
    """Open a release: its folder, the folder above it, or an archive, unpacked as needed into `scratch`."""
    release = find_release(path, scratch, LAYOUT)
    tables = sorted(file for file in release.tables.iterdir() if LAYOUT.is_mark(file.name))
    if len(tables) > 1:
        found = ", ".join(file.name for file in tables)
        raise UserError(str(path), f"several locales here: {found}", "leave one of them in the folder")
    return SpontaneousSpeech(release, _read(tables[0]))


def _read(path: Path) -> pl.DataFrame:
    rows = read_tsv(path, _COLUMNS)
    stated_s = pl.col("milliseconds").cast(pl.Float64, strict=False) / 1000
    # a line that is no row has no part: it is counted where it cannot be passed over
    named = pl.col("part").str.strip_chars().str.to_lowercase()
    part = pl.when(pl.col("bad") != "").then(pl.lit("train")).when(named == "").then(pl.lit(UNASSIGNED))
    return rows.with_columns(
        *clip_names(rows["clip"]),
        *(pl.lit("").alias(name) for name in ("sentence_id", "domain", "segment")),
        *(pl.lit(None, pl.Int32).alias(name) for name in ("up_votes", "down_votes")),
        part=part.otherwise(named),
        locale=pl.lit(path.stem.removeprefix("ss-corpus-")),
        duration_s=pl.when((stated_s > 0) & (stated_s <= MOST_SECONDS)).then(stated_s),  # NaN is above all
        offset_s=pl.lit(None, pl.Float64),
    ).select(*schema(), "part")
