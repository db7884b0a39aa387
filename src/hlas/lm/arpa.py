"""Back-off n-gram models as arrays: read from ARPA, looked up by the million, written as ARPA.

A model of 10^7 n-grams takes some 300 MB and a few seconds. Probabilities and back-off weights are log10, as in ARPA.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hlas.errors import UserError
from hlas.files import atomic_text

Ids = npt.NDArray[np.int64]  # word numbers, or positions of n-grams
Floats = npt.NDArray[np.float64]
BEGIN = "<s>"
ABSENT = -1


@dataclass(frozen=True, slots=True)
class Ngrams:
    """The n-grams of one order k, sorted by `keys`."""

    rows: Ids  # (n, k) word numbers
    keys: Ids  # (n,) position of the history among the n-grams of order k - 1, times the vocabulary, plus the last word
    log10_p: Floats  # (n,)
    backoff: Floats  # (n,) log10; 0 where no longer n-gram begins so


@dataclass(frozen=True, slots=True)
class BackoffModel:
    """A model over a vocabulary that it may share with others and of which it may know a part only."""

    vocabulary: int  # words that are numbered
    orders: tuple[Ngrams, ...]  # from 1

    def find(self, rows: Ids) -> Ids:
        """Positions of the n-grams (n, k) among those of order k; ABSENT where the model has no such n-gram."""
        position = np.zeros(len(rows), np.int64)
        for depth, ngrams in enumerate(self.orders[: rows.shape[1]]):
            wanted = np.where(position == ABSENT, ABSENT, position * self.vocabulary + rows[:, depth])
            position = _search(ngrams.keys, wanted)
        return position

    def log10_prob(self, rows: Ids) -> Floats:
        """log10 p(last word | the words before it) of n-grams (n, k); -inf for a last word that is not known."""
        length = rows.shape[1]
        if length > len(self.orders):
            return self.log10_prob(rows[:, 1:])
        found = self.find(rows)
        out = np.full(len(rows), -np.inf)
        known = found != ABSENT
        out[known] = self.orders[length - 1].log10_p[found[known]]
        if length > 1 and not known.all():
            shorter = rows[~known]
            history = self.find(shorter[:, :-1])
            backoff = np.where(history == ABSENT, 0.0, self.orders[length - 2].backoff[history])
            out[~known] = backoff + self.log10_prob(shorter[:, 1:])
        return out


def _search(keys: Ids, wanted: Ids) -> Ids:
    """Positions in sorted `keys`, ABSENT where a key is not there."""
    if not len(keys):
        return np.full(len(wanted), ABSENT, np.int64)
    position = np.searchsorted(keys, wanted)
    position[position == len(keys)] = 0
    return np.where(keys[position] == wanted, position, ABSENT)


def key_rows(shorter: BackoffModel, rows: Ids) -> Ids:
    """Keys of n-grams (n, k) for a model whose orders below k are `shorter`; ABSENT where the history is missing."""
    if rows.shape[1] == 1:
        return rows[:, 0].copy()
    history = shorter.find(rows[:, :-1])
    return np.where(history == ABSENT, ABSENT, history * shorter.vocabulary + rows[:, -1])


def read_arpa(path: Path, numbers: Mapping[str, int]) -> BackoffModel:
    """Read a model; `numbers` gives each of its words (and those of other models) a number from 0.

    Raises UserError for what is no ARPA file, and for an n-gram whose history is missing (lmplz writes them all).
    """
    words = pl.DataFrame(
        {"word": list(numbers), "number": list(numbers.values())}, schema={"word": pl.String, "number": pl.Int64}
    )
    model = BackoffModel(len(numbers), ())
    for order, section in enumerate(_sections(path), 1):
        table = _read_section(path, section, order, words)
        rows = table.select(pl.nth(range(order))).to_numpy().astype(np.int64)
        keys = key_rows(model, rows)
        if (keys == ABSENT).any():
            ngram = " ".join(list(numbers)[i] for i in rows[int(np.argmax(keys == ABSENT))])
            problem = f"the n-gram '{ngram}' is there and its beginning is not"
            raise UserError(str(path), problem, "build the model with lmplz, which keeps the beginnings")
        by_key = np.argsort(keys)
        log10_p, backoff = (table[name].to_numpy()[by_key] for name in ("log10_p", "backoff"))
        model = BackoffModel(len(numbers), (*model.orders, Ngrams(rows[by_key], keys[by_key], log10_p, backoff)))
    return model


@dataclass(frozen=True, slots=True)
class _Section:
    """Where the n-grams of one order lie in the file."""

    count: int  # n-grams, as the file's head says
    start: int  # bytes
    stop: int


def _sections(path: Path) -> list[_Section]:
    counts: list[int] = []
    starts: list[int] = []
    stops: list[int] = []
    position = 0
    with path.open("rb") as file:
        for line in file:
            if line.startswith(b"ngram ") and not starts:
                counts.append(int(line.partition(b"=")[2]))
            if line[:1] in b"\\\r\n" and len(stops) < len(starts):
                stops.append(position)
            position += len(line)
            if line.startswith(b"\\") and b"-grams:" in line:
                starts.append(position)
    if not counts or not len(counts) == len(starts) == len(stops):
        raise UserError(str(path), "not a whole ARPA file", "build the model anew")
    # the highest orders of a pruned or tiny model may be empty
    return [_Section(*where) for where in zip(counts, starts, stops, strict=True) if where[0]]


def _read_section(path: Path, section: _Section, order: int, words: pl.DataFrame) -> pl.DataFrame:
    """Columns w0 … of word numbers, log10_p, backoff."""
    with path.open("rb") as file:
        file.seek(section.start)
        lines = pl.read_csv(
            file.read(section.stop - section.start),
            has_header=False,
            separator="\t",
            quote_char=None,
            schema={"log10_p": pl.Float64, "ngram": pl.String, "backoff": pl.Float64},
            missing_columns="insert",
        )
    names = [f"w{i}" for i in range(order)]
    split = lines["ngram"].str.split_exact(" ", order - 1).struct.rename_fields(names).struct.unnest()
    columns = [
        split.select(pl.col(name).alias("word")).join(words, on="word", how="left", maintain_order="left")["number"]
        for name in names
    ]
    if len(lines) != section.count or any(column.null_count() for column in columns):
        raise UserError(str(path), f"the {order}-grams are not those that the file announces", "build the model anew")
    return pl.DataFrame(
        [column.alias(name) for column, name in zip(columns, names, strict=True)]
        + [lines["log10_p"], lines["backoff"].fill_null(0.0)]
    )


def write_arpa(path: Path, model: BackoffModel, words: Sequence[str]) -> None:
    """Write a model as ARPA; `words` in the order of their numbers."""
    spelled = pl.Series("word", words, dtype=pl.String)
    with atomic_text(path) as file:
        file.write("\\data\\\n")
        file.writelines(f"ngram {order}={len(ngrams.keys)}\n" for order, ngrams in enumerate(model.orders, 1))
        for order, ngrams in enumerate(model.orders, 1):
            file.write(f"\n\\{order}-grams:\n")
            columns: dict[str, Any] = {"log10_p": ngrams.log10_p}
            parts = [spelled.gather(ngrams.rows[:, i]).alias(f"w{i}") for i in range(order)]
            columns["ngram"] = pl.DataFrame(parts).select(pl.concat_str(pl.all(), separator=" ")).to_series()
            if order < len(model.orders):
                columns["backoff"] = ngrams.backoff
            table = pl.DataFrame(columns).with_columns(pl.col(pl.Float64).round(8))
            file.write(table.write_csv(separator="\t", include_header=False, quote_style="never"))
        file.write("\n\\end\\\n")


def number_words(word_lists: Iterable[Iterable[str]]) -> dict[str, int]:
    """A number for each word of several models, sorted, the special ones first."""
    words = {word for words in word_lists for word in words}
    return {word: i for i, word in enumerate(("<unk>", BEGIN, "</s>", *sorted(words - {"<unk>", BEGIN, "</s>"})))}
