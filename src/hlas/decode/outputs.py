"""What stages that decode write beside one another: hypotheses as JSON lines and CSV, OOV counts, seconds."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from hlas.manifests.rows import Hypothesis, Row, write_rows
from hlas.manifests.rows_csv import hypotheses_csv

SEARCH = "search.json"  # how the hypotheses were found: what a later stage needs to take their scores apart
OOV, TIMING, TUNING = "oov.json", "timing.json", "tuning.json"


def write_hypotheses(folder: Path, split: str, hypotheses: Iterable[Hypothesis]) -> list[str]:
    """Write <split>.jsonl and <split>.csv as the hypotheses come; returns their normalised texts."""
    texts = []

    def passing() -> Iterator[Hypothesis]:
        with hypotheses_csv(folder / f"{split}.csv") as write_line:
            for hypothesis in hypotheses:
                write_line(hypothesis, {})
                texts.append(hypothesis.pred_text)
                yield hypothesis

    write_rows(folder / f"{split}.jsonl", passing())
    return texts


def count_oov(known: Iterable[str], references: Mapping[str, Iterable[str]]) -> dict[str, dict[str, int]]:
    """Reference words of each split, and how many of them the LM does not know and so can hardly be found."""
    vocabulary = frozenset(known)
    counts = {}
    for split, texts in references.items():
        words = [word for text in texts for word in text.split()]
        counts[split] = {"words": len(words), "oov_words": sum(word not in vocabulary for word in words)}
    return counts


def add_seconds(
    before: Mapping[str, Mapping[str, float]], rows: Mapping[str, Iterable[Row]], seconds: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Seconds of all that came before and of this stage; a split whose earlier seconds are unknown is left out."""
    return {
        split: {
            "audio_s": round(sum(row.duration for row in own), 3),
            "seconds": round(before[split]["seconds"] + seconds[split], 3),
        }
        for split, own in rows.items()
        if split in before
    }
