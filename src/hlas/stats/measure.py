"""Numbers that describe manifests: durations, speakers, votes, letters, how the vocabulary grows.

Everything is computed column by column, so that a million utterances take seconds; no audio is read.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hlas.errors import UserError

QUANTILES = {"min": 0.0, "p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
BINS = 30
GROUPS = ("gender", "age", "accents", "variant", "domain", "up_votes", "down_votes")  # columns whose values are counted
LARGEST = 15  # values of a column, and speakers, that are named; the rest is counted together
GROWTH_POINTS = 40

_COLUMNS: Mapping[str, pl.DataType] = {
    "audio_filepath": pl.String(),
    "duration": pl.Float64(),
    "text": pl.String(),
    "speaker": pl.String(),
    "gender": pl.String(),
    "age": pl.String(),
    "accents": pl.String(),
    "variant": pl.String(),
    "domain": pl.String(),
    "up_votes": pl.Int64(),
    "down_votes": pl.Int64(),
    "snr_db": pl.Float64(),
}


@dataclass(frozen=True, slots=True)
class Distribution:
    """How a quantity is spread over the utterances."""

    quantiles: Mapping[str, float]  # keys of QUANTILES
    mean: float
    edges: tuple[float, ...]  # of the histogram's equal bins, one more than `counts`
    counts: tuple[int, ...]
    beyond: int  # utterances above the last edge, which is the 99.5 % quantile: outliers would flatten the plot


@dataclass(frozen=True, slots=True)
class Group:
    """The utterances that share one value of a column."""

    value: str  # '' = unknown
    utterances: int
    hours: float
    speakers: int


@dataclass(frozen=True, slots=True)
class GrowthPoint:
    """Size of the vocabulary after so many words of running text (in the manifest's order)."""

    words: int
    types: int


@dataclass(frozen=True, slots=True)
class SplitStats:
    """One manifest."""

    split: str
    utterances: int
    hours: float
    speakers: int
    utterances_without_speaker: int
    words: int
    types: int  # different words
    once: int  # of them, those that occur once
    sentences: int  # different texts
    unseen_types: int | None  # not in train's text; None for train itself and where there is no train
    unseen_words: float | None  # share of the running words that train's text does not hold
    largest_speaker: float  # share of the hours that one speaker has
    duration_s: Distribution
    words_per_utterance: Distribution
    chars_per_s: Distribution
    snr_db: Distribution | None  # None where the manifest gives no estimate
    speakers_by_hours: tuple[Group, ...]  # the largest
    groups: Mapping[
        str, tuple[Group, ...]
    ]  # column -> its values, the commonest first; columns without any are left out
    characters: tuple[tuple[str, int], ...]  # the commonest first, the space left out
    growth: tuple[GrowthPoint, ...]

    def to_json(self) -> dict[str, Any]:
        """The entry in stats.json."""
        return asdict(self)


def measure(manifests: Mapping[str, Path]) -> list[SplitStats]:
    """Describe manifests by split; `train`'s vocabulary is what the others' unseen words are counted against."""
    frames = {split: _read(path) for split, path in manifests.items()}
    known = _types(frames["train"]) if "train" in frames else None
    return [_describe(split, frame, None if split == "train" else known) for split, frame in frames.items()]


def _read(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_ndjson(path, schema=dict(_COLUMNS))
    except (pl.exceptions.PolarsError, OSError) as error:
        fix = "give a manifest: one JSON object a line with audio_filepath, duration and text"
        raise UserError(str(path), f"not a manifest: {str(error).splitlines()[0]}", fix) from error
    missing = [name for name in ("duration", "text") if frame[name].null_count() == len(frame)]
    if missing or not len(frame):
        problem = f"no row has {' and '.join(missing)}" if len(frame) else "the manifest is empty"
        raise UserError(str(path), problem, "give a manifest with duration and text")
    wrong = frame.with_row_index("row", 1).filter(pl.col("duration").is_null() | (pl.col("duration") < 0))
    if wrong.height:
        problem = f"{wrong.height} row(s) without a duration of at least 0 s, the first is row {wrong['row'][0]}"
        raise UserError(str(path), problem, "give a manifest with duration and text")
    return frame.with_columns(
        pl.col("text").fill_null(""),
        *(pl.col(name).cast(pl.String).fill_null("") for name in ("speaker", *GROUPS)),
    )


def _describe(split: str, frame: pl.DataFrame, known: set[str] | None) -> SplitStats:
    words = _words(frame)
    counts = words.value_counts()
    unseen = counts.filter(~pl.col("word").is_in(list(known))) if known is not None else None
    total = int(frame["duration"].sum() * 1000) / 1000
    speakers = _groups(frame.filter(pl.col("speaker") != ""), "speaker")
    char_rate = frame.filter(pl.col("duration") > 0).select(pl.col("text").str.len_chars() / pl.col("duration"))
    snr = frame["snr_db"].drop_nulls()
    return SplitStats(
        split=split,
        utterances=len(frame),
        hours=round(total / 3600, 4),
        speakers=len(speakers),
        utterances_without_speaker=int((frame["speaker"] == "").sum()),
        words=len(words),
        types=len(counts),
        once=int((counts["count"] == 1).sum()),
        sentences=frame["text"].n_unique(),
        unseen_types=None if unseen is None else len(unseen),
        unseen_words=None if unseen is None else round(float(unseen["count"].sum()) / max(1, len(words)), 5),
        largest_speaker=round(speakers[0].hours / max(1e-9, total / 3600), 4) if speakers else 0.0,
        duration_s=_distribution(frame["duration"].to_numpy()),
        words_per_utterance=_distribution(frame["text"].str.count_matches(r"\S+").to_numpy()),
        chars_per_s=_distribution(char_rate.to_series().to_numpy()),
        snr_db=_distribution(snr.to_numpy()) if len(snr) else None,
        speakers_by_hours=tuple(speakers[:LARGEST]),
        groups={name: _shortened(_groups(frame, name)) for name in GROUPS if (frame[name] != "").any()},
        characters=_characters(frame["text"].to_list()),
        growth=_growth(words),
    )


def _words(frame: pl.DataFrame) -> pl.Series:
    """All running words in order."""
    return frame["text"].str.extract_all(r"\S+").explode().drop_nulls().alias("word")


def _types(frame: pl.DataFrame) -> set[str]:
    return set(_words(frame).unique().to_list())


def _groups(frame: pl.DataFrame, column: str) -> list[Group]:
    """The values of a column, those with most hours first."""
    table = (
        frame.group_by(column)
        .agg(
            pl.len().alias("utterances"),
            (pl.col("duration").sum() / 3600).alias("hours"),
            pl.col("speaker").filter(pl.col("speaker") != "").n_unique().alias("speakers"),
        )
        .sort(["hours", column], descending=[True, False])
    )
    return [Group(str(value), count, round(hours, 6), speakers) for value, count, hours, speakers in table.iter_rows()]


def _shortened(groups: list[Group]) -> tuple[Group, ...]:
    """The largest groups; the others as one, whose speakers may be counted more than once and so are not given."""
    if len(groups) <= LARGEST:
        return tuple(groups)
    rest = groups[LARGEST:]
    utterances, hours = sum(g.utterances for g in rest), round(sum(g.hours for g in rest), 6)
    return (*groups[:LARGEST], Group(f"{len(rest)} others", utterances, hours, 0))


def _distribution(values: npt.NDArray[Any]) -> Distribution:
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        numbers = np.zeros(1)
    cuts = np.quantile(numbers, list(QUANTILES.values()))
    edges = _edges(numbers, float(np.quantile(numbers, 0.995)))
    inside = numbers[numbers <= edges[-1]]
    return Distribution(
        quantiles={name: round(float(cut), 4) for name, cut in zip(QUANTILES, cuts, strict=True)},
        mean=round(float(numbers.mean()), 4),
        edges=tuple(round(float(edge), 4) for edge in edges),
        counts=tuple(int(n) for n in np.histogram(inside, edges)[0]),
        beyond=len(numbers) - len(inside),
    )


def _edges(numbers: npt.NDArray[np.float64], high: float) -> npt.NDArray[np.float64]:
    """Edges of at most BINS equal bins up to about `high`; whole numbers lie in the middle of bins of whole width."""
    low = float(numbers.min())
    if (numbers == np.rint(numbers)).all():
        step = max(1, math.ceil((high - low + 1) / BINS))
        return np.arange(low - 0.5, math.floor(high) + 0.5 + step, step)
    return np.linspace(low, high if high > low else low + 1, BINS + 1)


def _characters(texts: Iterable[str]) -> tuple[tuple[str, int], ...]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    del counts[" "]
    return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _growth(words: pl.Series) -> tuple[GrowthPoint, ...]:
    """The curve of Heaps' law: different words against running words, at evenly spaced places."""
    if not len(words):
        return ()
    types = words.is_first_distinct().cum_sum()
    places = np.unique(np.linspace(0, len(words) - 1, GROWTH_POINTS).astype(int))
    return tuple(GrowthPoint(int(i) + 1, int(types[int(i)])) for i in places)
