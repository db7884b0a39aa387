"""How well an n-gram model predicts a text: perplexity and unknown words, by KenLM itself."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a model predicts a text."""

    sentences: int
    words: int
    oov_words: int  # words that the model does not know
    perplexity: float | None  # per token, sentence ends counted, unknown words left out; None for an empty text

    @property
    def shown(self) -> str:
        """One line for the log."""
        perplexity = "no perplexity" if self.perplexity is None else f"perplexity {self.perplexity:.1f}"
        return f"{perplexity}, {self.oov_words} of {self.words} words unknown"

    def to_json(self) -> dict[str, Any]:
        """For a stage's summary, with the share of unknown words."""
        return asdict(self) | {"oov_rate": round(self.oov_words / self.words, 5) if self.words else None}


def measure_fit(model: Path, sentences: Iterable[str]) -> Fit:
    """Perplexity and unknown words of normalised sentences under a model (as KenLM's `query` computes them)."""
    import kenlm

    loaded = kenlm.Model(str(model))
    count = words = unknown = 0
    log10_probability = 0.0
    for sentence in sentences:
        count += 1
        for log10_p, _, is_oov in loaded.full_scores(sentence):  # one a word, and one for the sentence's end
            words += 1
            unknown += is_oov
            log10_probability += 0.0 if is_oov else log10_p
    known = words - unknown
    return Fit(count, words - count, unknown, 10 ** (-log10_probability / known) if known else None)
