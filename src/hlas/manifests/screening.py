"""Which rows of a corpus become utterances, and why the others do not, before any audio is read.

Columns in, columns out: `Screen.judge` adds to the rows of a split (`corpus.schema` and what `check_transcripts` says)
  reason, detail           why the row is rejected, '' = it is not
  speaker_in, sentence_in  the earlier split that it shares its speaker or sentence with, null = none
"""

from dataclasses import dataclass
from typing import Literal

import polars as pl

from hlas.manifests.readers.tables import look_up

SegmentPolicy = Literal["keep", "drop", "only"]
_SHARED = {"utterance": "utterance", "speaker": "speaker", "text": "sentence"}  # column -> what splits may share


@dataclass(frozen=True, slots=True)
class RowRules:
    """What a row has to be; the part of a spec that text and table decide."""

    reject_speakers: bool  # that an earlier split has
    reject_sentences: bool
    segment: SegmentPolicy
    max_words: int | None
    min_up_votes: int | None
    max_down_votes: int | None
    max_per_sentence: int | None


def is_safe() -> pl.Expr:
    """Whether a row is one and names a file."""
    return (pl.col("bad") == "") & (pl.col("file") != "")


class Screen:
    """Judges the rows of one split after the other, the most protected first: test, dev, train.

    No clip of an earlier split appears in a later one, and no speaker and no sentence unless that is allowed.
    Every row of an earlier split counts, also one that was itself rejected or not chosen.
    """

    def __init__(self, rules: RowRules) -> None:
        self._rules = rules
        self._taken = {  # column -> what earlier splits hold, and which was the first
            column: pl.DataFrame(schema={column: pl.String, f"{name}_in": pl.String})
            for column, name in _SHARED.items()
        }

    def judge(self, rows: pl.DataFrame, *, choosy: bool) -> pl.DataFrame:
        """The rows with their verdicts; `choosy`: votes and repeats of a sentence count here."""
        for column, taken in self._taken.items():
            rows = look_up(rows, taken, column)
        verdicts = [*_damage(), *self._chosen(choosy), *self._text(), *self._overlaps()]
        rows = rows.with_columns(_first(verdicts, 1).alias("reason"), _first(verdicts, 2).alias("detail"))
        if choosy and self._rules.max_per_sentence is not None:
            rows = _without_repeats(rows, self._rules.max_per_sentence)
        return rows.drop("text_reason", "text_detail", "utterance_in")

    def protect(self, split: str, rows: pl.DataFrame) -> None:
        """Keep what these rows hold out of the splits judged from now on; they need the columns of `_SHARED`."""
        for column, name in _SHARED.items():
            held = rows.filter(is_safe() & (pl.col(column) != "")).select(column, pl.lit(split).alias(f"{name}_in"))
            self._taken[column] = pl.concat([self._taken[column], held]).unique(column, keep="first")

    def _chosen(self, choosy: bool) -> "list[_Verdict]":
        """What the spec leaves out by the columns of the table."""
        rules, out = self._rules, []
        segment = pl.col("segment")
        if rules.segment != "keep":
            left_out = (segment == "") if rules.segment == "only" else (segment != "")
            out.append(_Verdict(left_out, "segment", pl.when(segment == "").then(pl.lit("none")).otherwise(segment)))
        if choosy and rules.min_up_votes is not None:
            votes = pl.col("up_votes")
            out.append(_Verdict(votes.fill_null(-1) < rules.min_up_votes, "few_up_votes", _count(votes)))
        if choosy and rules.max_down_votes is not None:
            votes = pl.col("down_votes")
            out.append(_Verdict(votes.is_null() | (votes > rules.max_down_votes), "many_down_votes", _count(votes)))
        return out

    def _text(self) -> "list[_Verdict]":
        reason, detail, sentence = pl.col("text_reason"), pl.col("text_detail"), pl.col("sentence")
        shown = pl.when(detail == "").then(sentence).otherwise(detail + " in: " + sentence)
        out = [_Verdict(reason != "", reason, shown)]
        if self._rules.max_words is not None:
            words = pl.col("text").str.count_matches(" ") + 1
            out.append(_Verdict(words > self._rules.max_words, "too_many_words", words.cast(pl.String)))
        return out

    def _overlaps(self) -> "list[_Verdict]":
        out = []
        if self._rules.reject_speakers:
            shared = pl.col("speaker_in")
            out.append(_Verdict(shared.is_not_null(), "speaker_in_" + shared, pl.col("speaker")))
        if self._rules.reject_sentences:
            shared = pl.col("sentence_in")
            out.append(_Verdict(shared.is_not_null(), "sentence_in_" + shared, pl.col("sentence")))
        return out


@dataclass(frozen=True, slots=True)
class _Verdict:
    """A reason to reject rows."""

    applies: pl.Expr
    reason: str | pl.Expr
    detail: str | pl.Expr

    def text(self, field: int) -> pl.Expr:
        """The reason (1) or the detail (2)."""
        value = self.reason if field == 1 else self.detail
        return pl.lit(value) if isinstance(value, str) else value


def _damage() -> list[_Verdict]:
    """What is no row, names no file, or stands here again."""
    name = pl.when(is_safe()).then("utterance")
    again = is_safe() & ~name.is_first_distinct()
    taken = pl.col("utterance_in")
    where = pl.when(taken.is_null()).then(pl.lit("twice in this split")).otherwise("also in " + taken)
    return [
        _Verdict(pl.col("bad") != "", "bad_row", pl.col("bad")),
        _Verdict(pl.col("file") == "", "bad_path", "not the name of a file of the corpus"),
        _Verdict(again | taken.is_not_null(), "duplicate_clip", where),
    ]


def _first(verdicts: list[_Verdict], field: int) -> pl.Expr:
    """Reason or detail of the first verdict that applies, '' where none does."""
    return pl.coalesce([*(pl.when(v.applies).then(v.text(field)) for v in verdicts), pl.lit("")])


def _count(votes: pl.Expr) -> pl.Expr:
    return votes.cast(pl.String).fill_null("unknown")


def _without_repeats(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    """The first `most` accepted rows of each sentence stay, in the order of the table."""
    accepted = pl.col("reason") == ""
    turn = pl.int_range(pl.len()).over("reason", "text")
    repeated = accepted & (turn >= most)
    return rows.with_columns(
        reason=pl.when(repeated).then(pl.lit("sentence_repeated")).otherwise("reason"),
        detail=pl.when(repeated).then(pl.lit(f"more than {most}")).otherwise("detail"),
    )


def evenly(rows: pl.DataFrame, limit: int | None) -> pl.DataFrame:
    """At most `limit` rows, spread evenly over all, always the same ones."""
    if limit is None or limit >= rows.height:
        return rows
    return rows[[i * rows.height // limit for i in range(limit)]]
