"""The last look at the rows of a split: what their audio says, the limits, the account, and the manifest's columns."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from hlas.manifests.corpus import NUMBER_COLUMNS, TEXT_COLUMNS
from hlas.manifests.rows_table import SCHEMA

if TYPE_CHECKING:
    from hlas.manifests.stage import Params


class Finished(NamedTuple):
    """A split at its end."""

    kept: pl.DataFrame  # columns of rows_table.SCHEMA
    rejects: pl.DataFrame  # clip, reason, detail, in the order of the table
    account: dict[str, Any]  # for the summary: all that was read is kept or rejected


def finish_split(judged: pl.DataFrame, heard: pl.DataFrame, source: str, params: "Params") -> Finished:
    """Join what was screened and what was heard; `heard` has a line for each row that the screen accepted."""
    clip = pl.when(bad="").then("clip").otherwise(pl.format("line {}", "line"))
    verdicts = judged.select(clip.alias("clip"), "reason", "detail", chars=pl.col("text").str.len_chars())
    verdicts = verdicts.with_row_index("row")
    accepted = verdicts.filter(reason="").with_columns(heard.get_columns())
    accepted = accepted.with_columns(chars_per_s=pl.col("chars") / pl.col("duration"))
    accepted = accepted.with_columns(_implausible(params))
    unfit = accepted.filter(pl.col("reason") != "")
    details = [f"{value:.2f} {unit}" if unit else detail for detail, value, unit in unfit.select(*_DETAIL).iter_rows()]
    columns = ("row", "clip", "reason", "detail")
    rejects = pl.concat(
        [
            verdicts.filter(pl.col("reason") != "").select(*columns),
            unfit.with_columns(pl.Series("detail", details, pl.String)).select(*columns),
        ]
    )
    fit = accepted.filter(reason="")
    kept = judged.select(_NEEDED)[fit["row"]]
    kept = kept.with_columns(fit.select("path", "duration", "snr_db", "offset").get_columns())
    if kept.height + rejects.height != judged.height:
        raise AssertionError(f"kept {kept.height} + rejected {rejects.height} != read {judged.height}")
    rejects = rejects.sort("row").drop("row")
    return Finished(_as_rows(kept, source), rejects, _account(judged.height, kept, rejects))


_DETAIL = ("detail", "value", "unit")
_NEEDED = [
    *(name for name in SCHEMA if name in TEXT_COLUMNS + NUMBER_COLUMNS),
    "sentence",
    "text",
    "speaker_in",
    "sentence_in",
]


def _implausible(params: "Params") -> list[pl.Expr]:
    """The reason, also where a clip's length does not fit; then the value that does not, and its unit, else ''."""
    duration, rate = pl.col("duration"), pl.col("chars_per_s")
    cases = [
        (pl.col("reason") != "", pl.col("reason"), duration, ""),
        (duration < params.min_duration_s, pl.lit("too_short"), duration, "s"),
        (duration > params.max_duration_s, pl.lit("too_long"), duration, "s"),
        (rate < params.min_chars_per_s, pl.lit("too_slow"), rate, "characters/s"),
        (rate > params.max_chars_per_s, pl.lit("too_fast"), rate, "characters/s"),
    ]
    return [
        pl.coalesce([*(pl.when(applies).then(reason) for applies, reason, _, _ in cases), pl.lit("")]).alias("reason"),
        pl.coalesce([pl.when(applies).then(value) for applies, _, value, _ in cases]).alias("value"),
        pl.coalesce([*(pl.when(applies).then(pl.lit(unit)) for applies, _, _, unit in cases), pl.lit("")]).alias(
            "unit"
        ),
    ]


def _as_rows(kept: pl.DataFrame, source: str) -> pl.DataFrame:
    return kept.with_columns(audio_filepath="path", raw_text="sentence", source=pl.lit(source)).select(
        pl.col(name).cast(kind) for name, kind in SCHEMA.items()
    )


def _account(read: int, kept: pl.DataFrame, rejects: pl.DataFrame) -> dict[str, Any]:
    crossing = kept.select("speaker_in", "sentence_in").filter(~pl.all_horizontal(pl.all().is_null()))
    overlaps = [
        f"{kind}_{split}" for row in crossing.iter_rows() for kind, split in zip(crossing.columns, row) if split
    ]
    return {
        "read": read,
        "kept": kept.height,
        "hours": round(float(kept["duration"].sum()) / 3600, 4),
        "speakers": kept.filter(pl.col("speaker") != "")["speaker"].n_unique(),
        "rejected": _counts(rejects["reason"]),
        "overlaps_kept": _counts(overlaps),
    }


def _counts(values: Iterable[str]) -> dict[str, int]:
    """How often each value stands there, the commonest first."""
    return dict(Counter(values).most_common())
