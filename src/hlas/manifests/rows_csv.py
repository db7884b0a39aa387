"""Hypotheses as a CSV for a spreadsheet, in one form for every system: comma-separated, quoted where needed, UTF-8."""

import csv
from collections.abc import Iterable
from pathlib import Path

from hlas.files import atomic_text
from hlas.manifests.rows import Hypothesis

COLUMNS = (
    "utterance",
    "text",
    "pred_text",
    "raw_text",
    "raw_pred_text",
    "duration",
    "speaker",
    "logit_score",  # empty for systems without it, as the next
    "lm_score",
)


def write_hypotheses_csv(path: Path, hypotheses: Iterable[Hypothesis]) -> None:
    """Write one line a hypothesis under the header COLUMNS, whole or not at all."""
    with atomic_text(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for h in hypotheses:
            texts = (h.row.text, h.pred_text, h.row.raw_text, h.raw_pred_text)
            writer.writerow((h.row.utterance, *texts, h.row.duration, h.row.speaker, h.logit_score, h.lm_score))
