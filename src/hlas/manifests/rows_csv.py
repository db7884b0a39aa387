"""Hypotheses as a CSV for a spreadsheet, in one form for every system: comma-separated, quoted where needed, UTF-8."""

import csv
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from hlas.files import atomic_text
from hlas.manifests.rows import Hypothesis, Row

TEXTS = ("text", "pred_text", "raw_text", "raw_pred_text")
SCORES = ("logit_score", "lm_score")  # empty for systems without them
OTHERS = tuple(f.name for f in fields(Row) if f.name not in ("duration", *TEXTS))
COLUMNS = ("utterance", *TEXTS, "duration", *OTHERS, *SCORES)


def write_hypotheses_csv(path: Path, hypotheses: Iterable[Hypothesis]) -> None:
    """Write one line a hypothesis under the header COLUMNS, whole or not at all; n-best lists are in the JSON lines."""
    with atomic_text(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for h in hypotheses:
            writer.writerow([getattr(h if hasattr(h, name) else h.row, name) for name in COLUMNS])
