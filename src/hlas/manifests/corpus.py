"""What every corpus looks like to the manifests stage: named tables of one form, and where the audio is.

A reader is a module of `readers` with `open_corpus(path, scratch) -> Corpus`; READERS names them. What a corpus does
not say is '' or null. A line that is no row stays in its table with `bad` set, so that nothing is lost uncounted.
"""

from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import polars as pl

READERS = {  # reader: in a spec -> module
    "common_voice": "hlas.manifests.readers.common_voice",
    "spontaneous_speech": "hlas.manifests.readers.spontaneous_speech",
    "librispeech": "hlas.manifests.readers.librispeech",
    "ljspeech": "hlas.manifests.readers.ljspeech",
    "list": "hlas.manifests.readers.plain_list",
    "nemo": "hlas.manifests.readers.nemo_manifest",
    "lhotse": "hlas.manifests.readers.lhotse_cuts",
}

TEXT_COLUMNS = (
    "clip",  # how the table names the clip: for messages and rejects.tsv
    "file",  # audio file below `Corpus.audio`, or absolute; '' = the name leads nowhere safe
    "utterance",  # unique in the corpus, fit for a file name, without suffix
    "sentence",  # transcript as the corpus has it
    "speaker",
    "gender",
    "age",
    "accents",
    "variant",
    "locale",
    "sentence_id",
    "domain",
    "segment",  # Common Voice: '' or the name of a part such as the single-word segment
    "bad",  # why the line is no row; '' = it is one
)
MOST_SECONDS = 1e9  # a duration or an offset above it is no statement, and would not fit whole milliseconds
NUMBER_COLUMNS = (
    "line",  # UInt32: line of its file, from 1
    "up_votes",  # Int32, null where unknown
    "down_votes",
    "duration_s",  # Float64: as the corpus states it; null where it does not
    "offset_s",  # Float64: where the utterance begins inside its file; null = the whole file is one utterance
)


class Corpus(Protocol):
    """An opened corpus."""

    @property
    def label(self) -> str:
        """How the user named it."""

    @property
    def tables(self) -> Collection[str]:
        """Names of its tables: 'train', 'dev', 'test', and what else it has ('validated', 'other', …)."""

    @property
    def audio(self) -> Path:
        """Folder that relative `file`s start from; of an archive, one below `scratch` that `fetch` fills."""

    def read(self, table: str) -> "pl.DataFrame":
        """All rows of a table in its order, with the columns above; UserError where the table itself is unusable."""

    def fetch(self, files: Collection[str]) -> None:
        """Bring the named files below `audio`; nothing to do where they lie there already."""


def open_corpus(reader: str, path: Path, scratch: Path) -> Corpus:
    """Open a corpus with the reader of that name; an archive's tables are unpacked into `scratch`."""
    corpus: Corpus = import_module(READERS[reader]).open_corpus(path, scratch)
    return corpus


def schema() -> "dict[str, pl.DataType]":
    """Column -> polars type, in order: what every reader returns."""
    import polars as pl

    numbers = (pl.UInt32(), pl.Int32(), pl.Int32(), pl.Float64(), pl.Float64())
    return dict.fromkeys(TEXT_COLUMNS, pl.String()) | dict(zip(NUMBER_COLUMNS, numbers, strict=True))
