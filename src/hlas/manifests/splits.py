"""Which rows of a corpus make train, dev and test: the official splits, also expanded, or splits made here."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hlas.errors import UserError
from hlas.stages import MANIFEST_SPLITS

if TYPE_CHECKING:
    import polars as pl

    from hlas.manifests.corpus import Corpus

GROWN_FROM = "validated"  # table that `expand` takes from
JUDGED = ("test", "dev", "train")  # the most protected first: what they share, the later one loses


@dataclass(frozen=True, slots=True)
class OwnSplits:
    """Splits made here, as many whole speakers as come nearest to the fractions; the rest is train."""

    dev: float = 0.1  # fraction of the time, where every row states its own, else of the rows
    test: float = 0.1
    seed: int = 1  # another seed, other speakers
    by: Literal["speaker", "sentence"] = "speaker"  # sentence: for one voice; needs overlap.speakers: keep
    tables: tuple[str, ...] = ()  # that the rows come from; () = validated, or train, dev and test where it is missing

    def __post_init__(self) -> None:
        """Refuse fractions that leave nothing to train on."""
        if min(self.dev, self.test) < 0 or self.dev + self.test >= 1 or not self.dev + self.test:
            raise ValueError("splits: dev and test are fractions above 0 that leave something to train on")


def official_splits(corpus: "Corpus", named: Mapping[str, Sequence[str]], *, expand: bool) -> "dict[str, pl.DataFrame]":
    """The corpus' own splits, the most protected first; those without a row are left out.

    `named`: tables that make a split, where they are not the one of its name.
    `expand`: train goes on with the rows of `validated` that are not in train's table. That none of them belongs to
    dev or test, as a clip, a speaker or a sentence, is the screen's matter.

    Raises:
        UserError: a table that is not there, no split has rows, or there is nothing to grow from.

    """
    import polars as pl

    for split, names in named.items():
        if missing := [name for name in names if name not in corpus.tables]:
            there = ", ".join(corpus.tables)
            raise UserError(f"{corpus.label}: tables.{split}", f"no table '{missing[0]}'", f"it has: {there}")
    tables = {
        split: pl.concat(corpus.read(name) for name in named.get(split, (split,)))
        for split in JUDGED
        if split in named or split in corpus.tables
    }
    if expand:
        if GROWN_FROM not in corpus.tables:
            raise UserError(corpus.label, f"no table '{GROWN_FROM}' to expand train from", "leave out expand")
        more = corpus.read(GROWN_FROM)
        tables["train"] = _grown(tables["train"], more) if "train" in tables else more
    splits = {split: rows for split, rows in tables.items() if rows.height}
    if splits:
        return splits
    others = ", ".join(table for table in corpus.tables if table not in MANIFEST_SPLITS)
    if tables or not others:
        raise UserError(corpus.label, "every table is empty", "give a release with clips, or make splits of your own")
    raise UserError(
        corpus.label,
        f"no train, dev or test in it, as in a delta release; it has: {others}",
        f"make splits of your own from those that fit: splits: {{dev: 0.1, test: 0.1, tables: [{others}]}}",
    )


def _grown(train: "pl.DataFrame", more: "pl.DataFrame") -> "pl.DataFrame":
    """A row that stands in both tables is one row; bad lines of either stay."""
    import polars as pl

    named = more.filter(pl.col("utterance") != "").join(train, on="utterance", how="anti", maintain_order="left")
    return pl.concat([train, named, more.filter(pl.col("utterance") == "")])


def own_splits(corpus: "Corpus", options: OwnSplits) -> "dict[str, pl.DataFrame]":
    """Splits made of all rows of some tables, the most protected first, each in the order of the tables.

    Rows without a speaker, or without a sentence where these make the splits, and lines that are no rows go to train.

    Raises:
        UserError: a table is missing, or there are too few speakers or sentences.

    """
    import polars as pl

    names = options.tables or ((GROWN_FROM,) if GROWN_FROM in corpus.tables else tuple(MANIFEST_SPLITS))
    if missing := [name for name in options.tables if name not in corpus.tables]:
        there = ", ".join(corpus.tables)
        raise UserError(f"{corpus.label}: splits.tables", f"no table '{missing[0]}'", f"it has: {there}")
    rows = pl.concat(corpus.read(name) for name in names if name in corpus.tables)
    # whole milliseconds: a sum of floats depends on its order
    timed = rows["duration_s"].null_count() == 0
    weight = (pl.col("duration_s") * 1000).round().cast(pl.Int64) if timed else pl.lit(1, pl.Int64)
    group = pl.when(bad="").then(options.by).otherwise(pl.lit(""))
    rows = rows.with_columns(group=group)
    totals = rows.filter(pl.col("group") != "").group_by("group").agg(weight.sum())
    fractions = {split: f for split, f in (("test", options.test), ("dev", options.dev)) if f}
    assigned = assign(dict(totals.iter_rows()), fractions, options.seed)
    if assigned is None:
        raise UserError(
            corpus.label,
            f"{totals.height} different {options.by}s are too few for disjoint splits",
            "name the speaker of each row, or split by sentence: splits: {by: sentence}, overlap: {speakers: keep}",
        )
    split = pl.col("group").replace_strict(assigned, default="train", return_dtype=pl.String)
    parts = rows.with_columns(split=split).partition_by("split", as_dict=True, include_key=False)
    order = [split for split in JUDGED if (split,) in parts]
    return {split: parts[split,].drop("group") for split in order}


def assign(weights: Mapping[str, int], fractions: Mapping[str, float], seed: int) -> dict[str, str] | None:
    """Group -> split for the groups that leave train; None where there are fewer groups than splits.

    Groups come in an order that the seed decides and other groups do not change. A split takes each that fits into what
    is left of its fraction of the total weight, and the lightest where none does; every split gets one.
    """
    spare = len(weights) - len(fractions) - 1  # groups beyond one for each split, train among them
    if spare < 0:
        return None
    order = sorted(weights, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    total = sum(weights.values())
    out: dict[str, str] = {}
    for split, fraction in fractions.items():
        room, mine = fraction * total, list[str]()
        left = [name for name in order if name not in out]
        for name in left:
            if weights[name] <= room and (not mine or spare):
                spare -= bool(mine)
                room -= weights[name]
                mine.append(name)
        out |= dict.fromkeys(mine or [min(left, key=lambda name: weights[name])], split)
    return out
