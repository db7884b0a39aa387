"""The audio of the rows that the screen let pass: converted, probed or taken from the corpus' word, in their order."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from hlas.errors import UserError
from hlas.manifests.audio.converter import Converted, Converter, Job, kept_path
from hlas.manifests.audio.files import TOLERANCE_S, probe
from hlas.manifests.audio.options import AudioOptions
from hlas.manifests.corpus import Corpus
from hlas.manifests.screening import evenly
from hlas.parallel import map_chunks
from hlas.progress import track
from hlas.stage import Stage

CLIPS = "clips"  # folder of what is written, beside the manifests
HEARD_BY = ("clip", "file", "utterance", "duration_s", "offset_s")  # columns of corpus.schema that are needed here
_CHUNK = 32  # clips a worker takes at a time: about 0.1 s
_WRONG_SHARE = 0.01  # of the clips that were compared: more that differ, and the table is not this corpus'


def hear_clips(corpus: Corpus, rows: pl.DataFrame, options: AudioOptions, stage: Stage) -> pl.DataFrame:
    """A line for each row: path, duration, snr_db, offset, reason ('' = there is sound) and detail.

    `rows` have the columns HEARD_BY; utterances are unique. Everything is written below the stage's folder.
    """
    target = stage.folder / CLIPS
    target.mkdir(exist_ok=True)
    for left in target.glob(".*.part"):  # of a killed run
        left.unlink()
    trusted = _trusted(options)
    jobs = _jobs(rows.filter(~trusted))
    converter = Converter(corpus.audio, target, options)
    if corpus.audio.is_relative_to(stage.folder):  # of an archive
        if options.format == "keep" and not corpus.audio.is_symlink():
            corpus.audio.symlink_to(target, target_is_directory=True)  # there they stay
        corpus.fetch([*(job.file for job in jobs if not converter.is_made(job)), *rows.filter(trusted)["file"]])
    results = map_chunks(converter, jobs, workers=stage.workers, chunk_size=_CHUNK)
    heard = _frame(track(results, "audio", len(jobs), "clips"))
    numbered = rows.select("file", "duration_s", "offset_s").with_row_index("row")
    taken = _take(numbered.filter(trusted), corpus.audio, target.parent)
    heard = heard.with_columns(numbered.filter(~trusted).select("row", "offset_s").get_columns())
    offset = pl.col("offset_s") if options.format == "keep" else pl.lit(None, pl.Float64)
    columns = ("row", "path", "duration", "snr_db", "reason", "detail")
    both = pl.concat([heard.select(*columns, offset=offset), taken.select(*columns, offset=pl.lit(None, pl.Float64))])
    return both.sort("row").drop("row")


def _trusted(options: AudioOptions) -> pl.Expr:
    """Which rows need no look at their clip."""
    if not options.trust_durations:
        return pl.lit(False)
    return pl.col("offset_s").is_null() & (pl.col("duration_s").fill_null(0.0) > 0)


def _jobs(rows: pl.DataFrame) -> list[Job]:
    """What a corpus states is the duration of the file, or of the part of it that begins at the offset."""
    part = pl.col("offset_s").is_not_null()
    columns = rows.select(
        "file",
        "utterance",
        pl.when(~part).then("duration_s").alias("stated"),
        "offset_s",
        pl.when(part).then("duration_s"),
    )
    return [Job(*values) for values in columns.iter_rows()]


def _frame(results: Iterable[Converted]) -> pl.DataFrame:
    schema: dict[str, Any] = {
        "duration": pl.Float64,
        "path": pl.String,
        "reason": pl.String,
        "detail": pl.String,
        "snr_db": pl.Float64,
    }
    return pl.DataFrame(list(results), schema, orient="row")


def _take(rows: pl.DataFrame, audio: Path, folder: Path) -> pl.DataFrame:
    """Rows whose stated duration is taken; a file that its folder does not list is rejected."""
    prefix = kept_path(audio, folder)
    files = rows["file"]
    there = files.is_in(pl.Series(_listing(audio, files), dtype=pl.String).implode()) if rows.height else files == ""
    inside = pl.when(pl.col("file").str.starts_with("/")).then("file").otherwise(pl.lit(f"{prefix}/") + pl.col("file"))
    return rows.with_columns(
        path=inside,
        duration="duration_s",
        snr_db=pl.lit(None, pl.Float64),
        reason=pl.when(pl.lit(there)).then(pl.lit("")).otherwise(pl.lit("no_audio")),
        detail=pl.when(pl.lit(there)).then(pl.lit("")).otherwise(pl.lit("no such file")),
    )


def _listing(audio: Path, files: pl.Series) -> list[str]:
    """The files that are there, as the rows name them."""
    out = []
    for folder in files.str.replace(r"[^/]*$", "").unique():
        try:
            with os.scandir(audio / folder) as entries:
                out += [folder + entry.name for entry in entries if entry.is_file()]
        except OSError:  # no such folder: its files are not there
            continue
    return out


@dataclass(frozen=True, slots=True)
class StatedDurations:
    """What the corpus says about the length of its clips, against the clips."""

    compared: int
    differ: int  # by more than TOLERANCE_S
    worst: str  # '' where none differs

    @property
    def warning(self) -> str:
        """What is wrong with the statement, '' where it can be believed."""
        if self.differ <= self.compared * _WRONG_SHARE:
            return ""
        return (
            f"stated durations: {self.differ} of {self.compared} clips differ by more than {TOLERANCE_S} s from their "
            f"audio, most: {self.worst}; is it the table of this release?"
        )


def compare_durations(
    rows: pl.DataFrame, heard: pl.DataFrame, corpus: Corpus, options: AudioOptions, spot_check: int
) -> StatedDurations:
    """Compare stated and heard durations: of all clips that were opened, of `spot_check` where none was.

    Raises:
        UserError: none of the clips in the sample can be opened.

    """
    if options.trim:  # then clips are shorter than stated, rightly
        return StatedDurations(0, 0, "")
    stated = rows.select("clip", "file", "duration_s", "offset_s").with_columns(heard.get_columns())
    stated = stated.filter(pl.col("offset_s").is_null() & (pl.col("duration_s") > 0))
    opened = stated.filter(~_trusted(options) & (pl.col("duration") > 0)).select("clip", "duration_s", "duration")
    sample = stated.filter(_trusted(options) & (pl.col("reason") == ""))
    probed = _probe(sample, corpus, spot_check)
    both = pl.concat([opened, probed]).with_columns(off=(pl.col("duration_s") - pl.col("duration")).abs())
    wrong = both.filter(pl.col("off") > TOLERANCE_S).sort("off", descending=True, maintain_order=True)
    worst = ""
    if wrong.height:
        clip, says, is_, _ = wrong.row(0)
        worst = f"{clip}, {says:.2f} s stated, {is_:.2f} s heard"
    return StatedDurations(both.height, wrong.height, worst)


def _probe(rows: pl.DataFrame, corpus: Corpus, most: int) -> pl.DataFrame:
    sample = evenly(rows, most)
    found = [probe(corpus.audio / file) for file in sample["file"]]
    if sample.height and not any(f.duration_s for f in found):
        raise UserError(
            f"{corpus.label}: audio",
            f"none of {sample.height} clips can be opened, e.g. {sample['clip'][0]}: {found[0].detail}",
            "mend the clips, or do not trust the stated durations",
        )
    heard = pl.Series("duration", [f.duration_s for f in found], pl.Float64)
    return sample.with_columns(heard).select("clip", "duration_s", "duration").filter(pl.col("duration") > 0)


def remove_unused(folder: Path, used: Iterable[pl.Series]) -> None:
    """Remove the clips below the stage's folder that no manifest names; `used` are the manifests' audio_filepaths."""
    clips = folder / CLIPS
    wanted = set(chain.from_iterable(paths.filter(paths.str.starts_with(f"{CLIPS}/")) for paths in used))
    for below, _, files in os.walk(clips):
        for name in files:
            path = Path(below, name)
            if str(path.relative_to(folder)) not in wanted:
                path.unlink()
    if not wanted:
        shutil.rmtree(clips)
