"""What could make a manifest's numbers lie: splits that know each other, audio that stands twice, one voice for all.

The manifests stage runs `audit` over the rows it keeps and writes audit.json; the log and `stats` show it.
10^6 rows take a few seconds without the audio; `duplicate_audio` opens every file once (see audit_audio).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hlas.manifests.audit_audio import DuplicateAudio, find_duplicates
from hlas.manifests.rows import Row
from hlas.manifests.text import Language

if TYPE_CHECKING:
    import polars as pl

    Rows = Sequence[Row] | pl.DataFrame  # a frame has the columns of rows_table.SCHEMA

EXAMPLES = 10  # named of each kind of finding; the counts are of all
OUTLIER_Z = 3.5  # Iglewicz and Hoaglin (1993), How to Detect and Handle Outliers
DOMINANT_SHARE = 0.5  # of a split's audio: a speaker with more is warned about
QUANTILES = {"min": 0.0, "p1": 0.01, "median": 0.5, "p99": 0.99, "max": 1.0}
_SHOWN_SPEAKER = 12  # characters of a speaker's name in a log line; Common Voice has 128


@dataclass(frozen=True, slots=True)
class Options:
    """The key `audit` of a spec."""

    duplicate_audio: bool = True  # compare the clips byte by byte: reads 4 KiB of each, and all of those that match


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """One split in numbers. Shares of speakers are of the audio's time."""

    utterances: int
    hours: float
    sentences: int  # different ones, as normalised
    speakers: int
    unknown_speaker: int  # rows that name none; they count in no number about speakers
    largest_speaker: str
    largest_share: float | None  # 0 to 1; None where no speaker is known
    effective_speakers: float | None  # 1 / sum of squared shares: as many speakers of equal time (Simpson's index)
    gini: float | None  # 0: all speakers have the same time; towards 1: one has nearly all
    duration_s: dict[str, float]  # name of a quantile -> value
    chars_per_s: dict[str, float]


@dataclass(frozen=True, slots=True)
class Shared:
    """What two splits have in common."""

    kind: str  # 'clips', 'speakers' or 'sentences'
    splits: tuple[str, str]
    shared: int  # different clips, speakers or sentences
    rows: tuple[int, int]  # rows of either split that have them
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SharedText:
    """What a split has in common with a text, e.g. one that an LM is made of."""

    text: str  # name of the file
    split: str
    shared: int  # different sentences
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outlier:
    """An utterance far from the others."""

    split: str
    clip: str
    value: float
    z: float  # robust z of the value's logarithm


@dataclass(frozen=True, slots=True)
class Outliers:
    """Utterances of unusual duration or rate; the norm is that of all splits together."""

    kind: str  # 'duration_s' or 'chars_per_s'
    median: float
    low: int
    high: int
    examples: tuple[Outlier, ...]  # the farthest first


@dataclass(frozen=True, slots=True)
class Audit:
    """All findings."""

    splits: dict[str, SplitFacts]
    shared: tuple[Shared, ...]  # one for every kind and pair of splits
    outliers: tuple[Outliers, ...]
    duplicate_audio: DuplicateAudio | None  # None: not asked for

    def to_json(self) -> dict[str, Any]:
        """The content of audit.json."""
        return asdict(self) | {"warnings": list(self.warnings)}

    @property
    def lines(self) -> tuple[str, ...]:
        """For the log, a line for each split and each kind of finding."""
        out = [f"{split}: {_speakers_line(facts)}" for split, facts in self.splits.items()]
        out += [f"{s.splits[0]} and {s.splits[1]} share {s.shared} {s.kind}" for s in self.shared if s.shared]
        if len(self.splits) > 1 and not any(s.shared for s in self.shared):
            out.append(f"{', '.join(self.splits)} share no clip, no speaker and no sentence")
        for found in self.outliers:
            if found.low or found.high:
                worst = found.examples[0]
                out.append(
                    f"{found.kind}: {found.low} far below and {found.high} far above the median of {found.median:g}, "
                    f"e.g. {worst.clip}: {worst.value:g}"
                )
        if self.duplicate_audio:
            out.append(self.duplicate_audio.shown)
        return tuple(out)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should act on, or at least know before believing a number."""
        out = []
        for split, facts in self.splits.items():
            if facts.largest_share is not None and facts.largest_share > DOMINANT_SHARE:
                whose = f"speaker {_short(facts.largest_speaker)} has {facts.largest_share:.1%} of the audio"
                effect = "a model mostly learns" if split == "train" else "its numbers are mostly about"
                out.append(f"{split}: {whose}: {effect} this voice")
        for s in self.shared:
            if s.shared:
                out.append(
                    f"{s.splits[0]} and {s.splits[1]} share {s.shared} {s.kind} "
                    f"({s.rows[0]} and {s.rows[1]} rows), e.g. {_short(s.examples[0], 60)}"
                )
        if self.duplicate_audio:
            out += self.duplicate_audio.warnings
        return tuple(out)


def audit(splits: "Mapping[str, Rows]", folder: Path, options: Options | None = None, workers: int = 1) -> Audit:
    """Examine the rows of all splits; `folder` is what relative audio paths start from.

    Deterministic, whatever the number of workers. Splits without rows are left out.
    """
    options = options or Options()
    table = _table(splits)
    names = table["split"].unique(maintain_order=True).to_list()
    duplicates = find_duplicates(table, folder, workers, EXAMPLES) if options.duplicate_audio else None
    return Audit(
        {name: _facts(table.filter(split=name)) for name in names},
        tuple(_shared(table, kind, pair) for pair in combinations(names, 2) for kind in _KINDS),
        tuple(_outliers(table, kind) for kind in ("duration_s", "chars_per_s")),
        duplicates,
    )


def audit_text(
    splits: Mapping[str, Iterable[Row]], texts: Sequence[Path], language: Language, scratch: Path, workers: int = 1
) -> list[SharedText]:
    """How many sentences of each split stand in each text file (one sentence a line, plain or .gz), both normalised.

    The cost is that of normalising the lines, on all workers. Raises UserError for a file that is missing or not UTF-8.
    """
    from hlas.line_blocks import read_blocks

    sentences = {name: {row.text for row in rows} - {""} for name, rows in splits.items()}
    wanted = set().union(*sentences.values())
    out = []
    for path in texts:
        found = set()
        for block in read_blocks(path, language, path.name, scratch, workers):
            found |= wanted.intersection(block.accepted)
        out += [
            SharedText(path.name, name, len(found & own), _examples(found & own)) for name, own in sentences.items()
        ]
    return out


def facts_table(audit_json: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The content of an audit.json as (subject, finding) pairs for people: for the report and for `stats`."""
    out = [(split, _speakers_line(SplitFacts(**facts))) for split, facts in audit_json["splits"].items()]
    for s in audit_json["shared"]:
        out.append((f"{s['splits'][0]} and {s['splits'][1]}: {s['kind']}", f"{s['shared']} in common"))
    for found in audit_json["outliers"]:
        out.append((f"outliers of {found['kind']}", f"{found['low']} low, {found['high']} high"))
    if duplicates := audit_json["duplicate_audio"]:
        out.append(("clips that stand twice", str(duplicates["surplus"])))
    return out


_KINDS = {"clips": "clip", "speakers": "speaker", "sentences": "text"}  # of Shared -> column


def _table(splits: "Mapping[str, Rows]") -> "pl.DataFrame":
    """All rows: split, clip (file and offset), audio_filepath, offset, speaker, text, duration_s, chars_per_s."""
    import polars as pl

    from hlas.manifests.rows_table import SCHEMA, rows_frame

    frames = [
        (rows if isinstance(rows, pl.DataFrame) else rows_frame(rows)).with_columns(split=pl.lit(name))
        for name, rows in splits.items()
    ]
    table = pl.concat(frames) if frames else pl.DataFrame(schema={**SCHEMA, "split": pl.String})
    place = pl.when(pl.col("offset").is_not_null()).then("@" + pl.col("offset").cast(pl.String)).otherwise(pl.lit(""))
    return table.select(
        "split",
        pl.concat_str("audio_filepath", place).alias("clip"),
        "audio_filepath",
        "offset",
        "speaker",
        "text",
        pl.col("duration").alias("duration_s"),
        (pl.col("text").str.len_chars() / pl.col("duration")).alias("chars_per_s"),
    )


def _facts(part: "pl.DataFrame") -> SplitFacts:
    import polars as pl

    known = part.filter(pl.col("speaker") != "").group_by("speaker").agg(pl.col("duration_s").sum())
    known = known.sort(["duration_s", "speaker"], descending=[True, False])
    times = known["duration_s"]
    shares = times / times.sum() if known.height and times.sum() > 0 else None
    # Gini of shares that rise from x_1 to x_n and sum to 1: (2 Σ i x_i - n - 1) / n; here they fall, so the ranks do
    ranks = pl.Series(range(known.height, 0, -1))
    return SplitFacts(
        utterances=part.height,
        hours=round(float(part["duration_s"].sum()) / 3600, 4),
        sentences=part["text"].n_unique(),
        speakers=known.height,
        unknown_speaker=int((part["speaker"] == "").sum()),
        largest_speaker=known["speaker"][0] if known.height else "",
        largest_share=None if shares is None else round(float(shares[0]), 4),
        effective_speakers=None if shares is None else round(1 / float((shares * shares).sum()), 1),
        gini=None
        if shares is None
        else round((2 * float((ranks * shares).sum()) - known.height - 1) / known.height, 4),
        duration_s=_quantiles(part["duration_s"]),
        chars_per_s=_quantiles(part["chars_per_s"]),
    )


def _quantiles(values: "pl.Series") -> dict[str, float]:
    finite = values.filter(values.is_finite())
    found = {name: finite.quantile(q, "nearest") for name, q in QUANTILES.items()}
    return {name: round(value, 3) for name, value in found.items() if value is not None}


def _shared(table: "pl.DataFrame", kind: str, pair: tuple[str, str]) -> Shared:
    import polars as pl

    column = _KINDS[kind]
    parts = [table.filter((pl.col("split") == split) & (pl.col(column) != ""))[column] for split in pair]
    common = parts[0].unique().to_frame().join(parts[1].unique().to_frame(), on=column)[column].sort()
    rows = (int(parts[0].is_in(common.implode()).sum()), int(parts[1].is_in(common.implode()).sum()))
    return Shared(kind, pair, len(common), rows, _examples(common))


def _outliers(table: "pl.DataFrame", kind: str) -> Outliers:
    """Robust z of the logarithm, as durations and rates spread by factors: 0.6745 (x - median) / MAD."""
    import polars as pl

    usable = table.filter(pl.col(kind).is_finite() & (pl.col(kind) > 0))
    if usable.is_empty():
        return Outliers(kind, 0.0, 0, 0, ())
    median = usable[kind].median()
    assert isinstance(median, float)
    logs = usable[kind].log()
    deviations = logs - logs.median()
    spread = deviations.abs().median()
    if not isinstance(spread, float) or spread == 0.0:  # more than half are the same: no norm for the others
        return Outliers(kind, round(median, 3), 0, 0, ())
    far = usable.with_columns(z=0.6745 * deviations / spread).filter(pl.col("z").abs() > OUTLIER_Z)
    worst = far.sort([pl.col("z").abs(), "split", "clip"], descending=[True, False, False]).head(EXAMPLES)
    named = worst.select("split", "clip", pl.col(kind).round(3), pl.col("z").round(2)).rows()
    low = int((far["z"] < 0).sum())
    return Outliers(kind, round(median, 3), low, far.height - low, tuple(Outlier(*row) for row in named))


def _speakers_line(facts: SplitFacts) -> str:
    line = f"{facts.utterances} utterances, {facts.hours:.2f} h, {facts.sentences} sentences"
    if facts.largest_share is not None:
        line += (
            f", {facts.speakers} speakers (as many as {facts.effective_speakers:g} equal ones; "
            f"the largest has {facts.largest_share:.1%} of the audio)"
        )
    return line + (f", {facts.unknown_speaker} rows without a speaker" if facts.unknown_speaker else "")


def _examples(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(values)[:EXAMPLES])


def _short(text: str, length: int = _SHOWN_SPEAKER) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
