"""Backend `pyctcdecode`: the reference that always works, with three of its faults mended.

`FastSearch` gives the same texts and scores. Both see the alphabet as the vocabulary's unit says, never by guessing.
"""

import logging
from collections.abc import Sequence
from typing import Any

import kenlm
import numpy as np
from pyctcdecode import BeamSearchDecoderCTC
from pyctcdecode import decoder as pyctcdecode_decoder
from pyctcdecode.alphabet import Alphabet
from pyctcdecode.constants import LOG_BASE_CHANGE_FACTOR, MIN_TOKEN_CLIP_P
from pyctcdecode.language_model import LanguageModel

from hlas.decode.logprobs import WORD_START, Array, BadLogProbs, Vocabulary, normalised
from hlas.decode.search import Found, NBest, SearchOptions
from hlas.decode.tune import Weights
from hlas.decode.word_times import WordTimer
from hlas.lm.ngram import LmFiles

logging.getLogger("pyctcdecode").setLevel(logging.ERROR)  # it warns of every small word list


def _merge_beams(beams: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Beams of one prefix become one, with the word times of the first, which is the best of them.

    pyctcdecode 0.5 keeps the times of the last one, the least likely path that leads to the prefix.
    """
    merged: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for beam in beams:
        text, next_word, word_part, last_char, *_, logit_score = beam
        key = (pyctcdecode_decoder._merge_tokens(text, next_word), word_part, last_char)
        known = merged.get(key)
        if known is None:
            merged[key] = beam
        else:
            merged[key] = (*known[:-1], pyctcdecode_decoder._sum_log_scores(known[-1], logit_score))
    return list(merged.values())


THEIR_MERGE_BEAMS = pyctcdecode_decoder._merge_beams  # for comparisons
pyctcdecode_decoder._merge_beams = _merge_beams  # its search calls it by that name and takes no other


class ReferenceSearch:
    """pyctcdecode's search."""

    batch = 1

    def __init__(self, vocabulary: Vocabulary, lm: LmFiles | None, options: SearchOptions) -> None:
        self._decoder = make_decoder(vocabulary, lm)
        self._has_lm = lm is not None
        self._options = options
        self._hotwords = _Hotwords(options.hotwords)
        self._timer = WordTimer(vocabulary) if options.word_times else None

    def decode(self, batch: Sequence[Array], weights: Sequence[Weights]) -> list[tuple[NBest, ...]]:
        """See Backend."""
        out = []
        for position, frames in enumerate(batch):
            try:
                # float64: Python's own float is the fastest of numpy's scalars, and float16 would sum with an error
                logits = np.clip(normalised(frames), np.log(MIN_TOKEN_CLIP_P), 0)
            except BadLogProbs as error:
                raise BadLogProbs(error.frame, position) from None
            out.append(tuple(self._search(frames, logits, at) for at in weights))
        return out

    def _search(self, frames: Array, logits: Array, weights: Weights) -> NBest:
        options = self._options
        if self._has_lm:
            set_weights(self._decoder, weights, options)
        # past decode_beams, which would guess whether it was given probabilities, and knows one bonus for all hotwords
        beams = self._decoder._decode_logits(
            logits,
            beam_width=options.width,
            beam_prune_logp=options.beam_prune_logp,
            token_min_logp=options.token_min_logp,
            prune_history=options.prune_history,
            hotword_scorer=self._hotwords,
        )
        times = None if self._timer is None else self._timer.of(frames)
        found: dict[str, Found] = {}
        for text, _, word_frames, logit_score, lm_score in beams[: options.nbest]:
            spans = [span for _, span in word_frames]
            timed = () if times is None else times(text, spans)
            found.setdefault(text, Found(text, float(logit_score), float(lm_score), timed))
        return tuple(found.values())


def make_decoder(vocabulary: Vocabulary, lm: LmFiles | None) -> Any:
    """A pyctcdecode decoder for the vocabulary; the LM always comes with its word list.

    The alphabet is built from the vocabulary's own unit: pyctcdecode would guess it from the labels, and would read
    '|', '_' or '<unk>' among them as signs of its own.
    """
    bpe = vocabulary.unit == "bpe"
    labels = [_BareWordStart(t) if bpe and t == WORD_START else t for t in vocabulary.tokens]
    alphabet = Alphabet([*labels, ""], bpe)  # '' is the blank
    if lm is None:
        return BeamSearchDecoderCTC(alphabet)
    return BeamSearchDecoderCTC(alphabet, _WordLm(kenlm.Model(str(lm.model)), lm.words()))


def set_weights(decoder: Any, weights: Weights, options: SearchOptions) -> None:
    """Set a decoder's LM weights without loading the LM again."""
    decoder.reset_params(
        alpha=float(weights.alpha), beta=float(weights.beta), unk_score_offset=float(options.unk_score_offset)
    )


class _BareWordStart(str):
    """The piece '▁' on its own: it begins a word and does not end one.

    pyctcdecode 0.5 asks whether a label ends in '▁' and then breaks the word before the next label, and does so
    through a flag that all beams share: any beam that comes next is cut in two. Only '▁⁇▁' is meant there.
    """

    __slots__ = ()

    def __getitem__(self, key: Any) -> str:
        return "" if key == slice(-1, None) else super().__getitem__(key)


class _WordLm(LanguageModel):  # type: ignore[misc]  # pyctcdecode is untyped
    """Nothing after the last space is no word.

    pyctcdecode 0.5 scores it as an unknown one, so that a text loses to a worse one where the model ends in a space.
    """

    def score(self, prev_state: Any, word: str, is_last_word: bool = False) -> tuple[float, Any]:
        if word:
            scored: tuple[float, Any] = super().score(prev_state, word, is_last_word)
            return scored
        end = self._get_raw_end_score(prev_state) if is_last_word else 0.0
        return self.alpha * end * LOG_BASE_CHANGE_FACTOR, prev_state


class _Hotwords:
    """pyctcdecode's HotwordScorer with a bonus of its own for each word.

    A complete hotword gets its bonus, the beginning of one the share of the letters that are there; of several
    hotwords that begin so, the best share counts.
    """

    def __init__(self, hotwords: Sequence[tuple[str, float]]) -> None:
        self._words: dict[str, float] = {}
        for word, bonus in hotwords:
            self._words[word] = max(bonus, self._words.get(word, 0.0))
        self._beginnings: dict[str, float] = {}
        for word, bonus in self._words.items():
            for n in range(1, len(word) + 1):
                share = bonus * n / len(word)
                self._beginnings[word[:n]] = max(share, self._beginnings.get(word[:n], 0.0))

    def __contains__(self, beginning: str) -> bool:
        return beginning in self._beginnings

    def score(self, text: str) -> float:
        """The bonuses of a text's words."""
        return sum(self._words.get(word, 0.0) for word in text.split()) if self._words else 0.0

    def score_partial_token(self, beginning: str) -> float:
        """The bonus of a beginning."""
        return self._beginnings.get(beginning, 0.0)
