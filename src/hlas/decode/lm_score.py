"""What a word LM makes of whole texts, in the units in which the searches add it to their scores."""

from math import log

import kenlm

from hlas.lm.ngram import LmFiles

LN_10 = log(10)


class LmScorer:
    """Natural log probability of a sentence, its end counted, with an offset for each word that is not known.

    alpha times this is what a word search adds for the text (beta apart), whichever weights it had.
    """

    def __init__(self, lm: LmFiles, unk_score_offset: float = 0.0) -> None:
        self._model = kenlm.Model(str(lm.model))
        self._known = frozenset(lm.words())
        self._offset = unk_score_offset

    def __call__(self, text: str) -> float:
        """The score of a text as a search spells it: words with one space between."""
        unknown = sum(word not in self._known for word in text.split())
        return LN_10 * (float(self._model.score(text)) + self._offset * unknown)
