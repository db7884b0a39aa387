"""Rescoring of n-best lists with a second LM: a log-linear sum whose weights are tuned on dev, exactly and cheaply.

score = log p(acoustic) + first_alpha * log p(first LM) + alpha * log p(second LM) + beta * words, natural logarithms.
The first LM is the one that the search had; its part is taken out of the candidate's own scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hlas.decode.tune import Rates, Weights, count_edits, reference_size
from hlas.manifests.rows import Candidate

Features = npt.NDArray[np.float64]  # (candidates, 4): acoustic, first LM, second LM, words


@dataclass(frozen=True, slots=True)
class Mix:
    """Weights of a rescoring."""

    first_alpha: float  # of the search's LM
    alpha: float  # of the second LM
    beta: float  # a word

    @property
    def axes(self) -> tuple[float, float, float, float]:
        """What each feature is multiplied by."""
        return (1.0, self.first_alpha, self.alpha, self.beta)


@dataclass(frozen=True, slots=True)
class MixPoint:
    """A mix and what it reaches on dev."""

    mix: Mix
    rates: Rates

    @property
    def rank(self) -> tuple[float, ...]:
        """Smaller is better: WER, then CER, then as near as can be to the search's own order."""
        return (self.rates.wer, self.rates.cer, self.mix.alpha, -self.mix.first_alpha, self.mix.beta)


def features_of(nbest: Sequence[Candidate], searched: Weights, second_lm: Callable[[str], float]) -> Features:
    """The candidates' scores taken apart; `searched` are the weights of the search that made them."""
    out = np.empty((len(nbest), 4))
    for row, candidate in zip(out, nbest, strict=True):
        words = len(candidate.text.split())
        # what the search added to the acoustic score, hotwords among it
        added = candidate.lm_score - candidate.logit_score - searched.beta * words
        first = added / searched.alpha if searched.alpha else 0.0
        row[:] = candidate.logit_score, first, second_lm(candidate.text), words
    return out


def reorder(nbest: Sequence[Candidate], features: Features, mix: Mix) -> tuple[Candidate, ...]:
    """The candidates by their new scores, of equal ones the search's better one first; `lm_score` is the new score."""
    scores = features @ np.array(mix.axes)
    order = np.argsort(-scores, kind="stable")
    return tuple(replace(nbest[i], lm_score=round(float(scores[i]), 4)) for i in order)


def tune_mix(
    mixes: Sequence[Mix], references: Sequence[str], nbests: Sequence[Sequence[Candidate]], features: Sequence[Features]
) -> list[MixPoint]:
    """The error rates of every mix on the n-best lists of a split."""
    axes = np.array([mix.axes for mix in mixes])
    errors = np.zeros((len(mixes), 2), np.int64)
    for reference, nbest, own in zip(references, nbests, features, strict=True):
        best, position = np.unique((axes @ own.T).argmax(axis=1), return_inverse=True)
        errors += np.array([count_edits(reference, nbest[i].text) for i in best])[position]
    words, characters = reference_size(references)
    return [
        MixPoint(mix, Rates(int(w) / words, int(c) / characters)) for mix, (w, c) in zip(mixes, errors, strict=True)
    ]
