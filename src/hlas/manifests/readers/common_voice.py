"""A Common Voice release, whatever the version, as a corpus: from a folder or an archive.

Columns are found by name, as they moved between versions; what a version lacks is '' or null. A delta release has no
train, dev and test; the releases of the single-word segment have the form of all others.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl

from hlas.manifests.corpus import MOST_SECONDS, schema
from hlas.manifests.readers.release import Layout, Release, find_release
from hlas.manifests.readers.tables import Column, first_line, look_up, read_tsv
from hlas.manifests.readers.utterance_names import MAX_NAME_BYTES

TABLES = ("train", "dev", "test", "validated", "other", "invalidated")
DURATIONS = ("clip_durations.tsv", "times.txt")  # since 16.1; in 14 and 15
LAYOUT = Layout(
    name="Common Voice",
    marks=r"(train|dev|test|validated|other)\.tsv",
    extras=r"invalidated\.tsv|clip_durations\.tsv|times\.txt",
    audio="clips",
    example="train.tsv, dev.tsv, test.tsv, validated.tsv, other.tsv",
)
_COLUMNS = {  # column of corpus.schema -> names in the tables
    "clip": Column(("path",), needed=True),
    "sentence": Column(("sentence",), needed=True),
    "speaker": Column(("client_id",)),
    "gender": Column(("gender",)),
    "age": Column(("age",)),
    "accents": Column(("accents", "accent")),
    "variant": Column(("variant",)),
    "locale": Column(("locale",)),
    "sentence_id": Column(("sentence_id",)),
    "domain": Column(("sentence_domain",)),
    "segment": Column(("segment",)),
    "up_votes": Column(("up_votes",)),
    "down_votes": Column(("down_votes",)),
}
_DURATION_COLUMNS = {
    "clip": Column(("clip", "filename", "path"), needed=True),
    "milliseconds": Column(("duration[ms]", "duration"), needed=True),
}
_PLAIN_NAME = r"^[0-9A-Za-z_-]{1,180}\.[0-9a-z]{1,5}$"  # what nearly all clips are called
_SUFFIX = r"\.[^.]*$"
_MOST_PATH_BYTES = 1000  # a system takes 4096, with the folder that the release lies in


@dataclass(frozen=True, slots=True)
class CommonVoice:
    """An opened release; a `corpus.Corpus`."""

    release: Release
    durations: pl.DataFrame  # file, duration_s; empty where the release states none

    @property
    def label(self) -> str:
        """How the user named it."""
        return self.release.label

    @property
    def tables(self) -> Collection[str]:
        """Names of its tables."""
        return [name for name in TABLES if self.release.table(f"{name}.tsv")]

    @property
    def audio(self) -> Path:
        """Folder of the clips."""
        return self.release.audio

    def read(self, table: str) -> pl.DataFrame:
        """All rows of a table; UserError where it has no header with a path and a sentence."""
        rows = read_tsv(self.release.tables / f"{table}.tsv", _COLUMNS)
        rows = rows.with_columns(
            *clip_names(rows["clip"]),
            pl.col("up_votes", "down_votes").cast(pl.Int32, strict=False),
            offset_s=pl.lit(None, pl.Float64),
        )
        return look_up(rows, self.durations, "file").select(*schema())

    def fetch(self, files: Collection[str]) -> None:
        """Unpack the named clips, if the release is an archive."""
        self.release.fetch(files)


def open_corpus(path: Path, scratch: Path) -> CommonVoice:
    """Open a release: a locale's folder, the folder above it, or an archive, unpacked as needed into `scratch`."""
    release = find_release(path, scratch, LAYOUT)
    return CommonVoice(release, read_durations(release))


def read_durations(release: Release) -> pl.DataFrame:
    """What the release states about its clips: columns file, duration_s; each file once."""
    path = next(filter(None, map(release.table, DURATIONS)), None)
    if path is None:
        return pl.DataFrame(schema={"file": pl.String, "duration_s": pl.Float64})
    second = first_line(path).split("\t")[1:2]
    headless = bool(second) and second[0].strip().isdecimal()
    rows = read_tsv(path, _DURATION_COLUMNS, ("clip", "duration") if headless else ())
    stated = rows.select(
        clip_names(rows["clip"].str.replace(r"^.*/", ""))[0],
        (pl.col("milliseconds").str.strip_chars().cast(pl.Float64, strict=False) / 1000).alias("duration_s"),
    )
    usable = (pl.col("file") != "") & pl.col("duration_s").is_between(0, MOST_SECONDS)
    return stated.filter(usable).unique("file", keep="last", maintain_order=True)


def clip_file(path: str) -> str:
    """The file below clips/ that a table's `path` names, '' if it names none; the first releases left `.mp3` out."""
    parts = PurePosixPath(path).parts
    unsafe = not parts or path.startswith("/") or ".." in parts or "\\" in path or not path.isprintable()
    if unsafe or len(path.encode()) > _MOST_PATH_BYTES or max(len(p.encode()) for p in parts) > MAX_NAME_BYTES:
        return ""
    return "/".join(parts) if PurePosixPath(path).suffix else "/".join(parts) + ".mp3"


def clip_names(paths: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The series `file` and `utterance` (the file's stem) of a table's paths."""
    odd = paths.filter(~paths.str.contains(_PLAIN_NAME) & (paths != "")).unique()
    if odd.is_empty():
        return paths.alias("file"), paths.str.replace(_SUFFIX, "").alias("utterance")
    files = {path: clip_file(path) for path in odd}
    stems = {path: PurePosixPath(file).stem for path, file in files.items()}
    path = pl.col(paths.name)
    named = paths.to_frame().select(
        file=path.replace(files),
        utterance=pl.when(path.is_in(odd.implode())).then(path.replace(stems)).otherwise(path.str.replace(_SUFFIX, "")),
    )
    return named["file"], named["utterance"]
