"""Hypotheses as a CSV for a spreadsheet, in one form for every system: comma-separated, quoted where needed, UTF-8.

A spreadsheet runs a cell that begins with = + - @ as a formula, and anybody may write a transcript: such texts get an
apostrophe in front, which spreadsheets take for "this is text". The JSON lines beside have the texts as they are.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from hlas.files import atomic_text
from hlas.manifests.rows import Hypothesis, Row

TEXTS = ("text", "pred_text", "raw_text", "raw_pred_text")
SCORES = ("logit_score", "lm_score")  # empty for systems without them
OTHERS = tuple(f.name for f in fields(Row) if f.name not in ("duration", *TEXTS))
_VALUES = ("utterance", *TEXTS, "duration", *OTHERS, *SCORES)
COLUMNS = (*_VALUES, "doubts")  # the doubts' names with a space between
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # a spreadsheet skips white space before a formula


def write_hypotheses_csv(
    path: Path, hypotheses: Sequence[Hypothesis], counts: Sequence[Mapping[str, float | int | None]] = ()
) -> None:
    """Write one line a hypothesis under the header COLUMNS, whole or not at all; n-best lists are in the JSON lines.

    `counts` holds further columns, the same for each hypothesis; or nothing.
    """
    further = counts or [{}] * len(hypotheses)
    with hypotheses_csv(path, tuple(further[0]) if further else ()) as write_line:
        for h, own in zip(hypotheses, further, strict=True):
            write_line(h, own)


@contextmanager
def hypotheses_csv(
    path: Path, further: Sequence[str] = ()
) -> Iterator[Callable[[Hypothesis, Mapping[str, float | int | None]], None]]:
    """Open such a file for hypotheses that come one by one: the function takes one and its further columns."""
    with atomic_text(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *further])

        def write_line(h: Hypothesis, own: Mapping[str, float | int | None]) -> None:
            cells = [getattr(h if hasattr(h, name) else h.row, name) for name in _VALUES]
            writer.writerow([*map(safe_cell, (*cells, " ".join(h.doubts))), *own.values()])

        yield write_line


def safe_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; numbers stay as they are."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
