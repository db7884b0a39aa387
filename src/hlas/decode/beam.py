"""CTC prefix beam search with or without a word n-gram LM: pyctcdecode, with two of its faults mended.

The score of a text is log p(acoustic) + alpha * log p(LM) + beta * words, in natural logarithms. Worker processes open
the log-probs and the LM themselves; only utterance numbers go out and texts come back.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import kenlm
import numpy as np
from pyctcdecode import BeamSearchDecoderCTC
from pyctcdecode.alphabet import Alphabet
from pyctcdecode.constants import LOG_BASE_CHANGE_FACTOR
from pyctcdecode.language_model import LanguageModel

from hlas.decode.logprobs import WORD_START, Array, LogProbs, Vocabulary, read_log_probs
from hlas.decode.tune import Weights
from hlas.lm.ngram import LmFiles
from hlas.manifests.rows import Candidate
from hlas.parallel import map_chunks

logging.getLogger("pyctcdecode").setLevel(logging.ERROR)  # it warns of every small word list


@dataclass(frozen=True, slots=True)
class BeamOptions:
    """How wide the search is; the defaults are pyctcdecode's."""

    width: int = 100  # prefixes kept at a frame
    beam_prune_logp: float = -10.0  # prefixes so much worse than the best one go (natural log)
    token_min_logp: float = -5.0  # labels less likely than this are tried only where they are a frame's best
    unk_score_offset: float = -10.0  # added (log10, so weighted by alpha) for a word that the LM does not know
    nbest: int = 1  # candidates returned


NO_LM = Weights(0.0, 0.0)  # without an LM, beta would only insert or delete tokens

NBest = tuple[Candidate, ...]  # best first, never empty


@dataclass(frozen=True, slots=True)
class BeamSearch:
    """A search over the utterances of a split, at one or several weights; small to pickle."""

    folder: Path  # of the log-probs
    split: str
    lm: LmFiles | None
    options: BeamOptions
    weights: tuple[Weights, ...]

    def __post_init__(self) -> None:
        if self.lm is None and self.weights != (NO_LM,):
            raise ValueError("without an LM there is nothing to weigh")

    def __call__(self, indices: Sequence[int]) -> list[tuple[NBest, ...]]:
        """The n-best lists of the utterances, one at each of the weights."""
        log_probs, frames = _open(self.folder, self.split)
        decoder = _decoder(log_probs.vocabulary, self.lm)
        out = []
        for index in indices:
            utterance = log_probs.utterances[index]
            own = frames[utterance.first_frame : utterance.first_frame + utterance.frames]
            out.append(tuple(self._search(decoder, own, weights) for weights in self.weights))
        return out

    def _search(self, decoder: Any, frames: Array, weights: Weights) -> NBest:
        if self.lm is not None:
            set_weights(decoder, weights, self.options)
        return search(decoder, frames, self.options)

    def run(self, utterances: int, workers: int) -> Iterator[tuple[NBest, ...]]:
        """Search the first `utterances` of the split in parallel; results in order."""
        return map_chunks(self, range(utterances), workers=workers, chunk_size=8)


def search(decoder: Any, frames: Array, options: BeamOptions) -> NBest:
    """The n-best list of one utterance: frames (frames, vocabulary + 1), natural log, any float type."""
    if not len(frames):
        return (Candidate("", 0.0, 0.0),)
    beams = decoder.decode_beams(
        # float64: Python's own float is the fastest of numpy's scalars, and float16 would sum with an error
        frames.astype(np.float64),
        beam_width=options.width,
        beam_prune_logp=options.beam_prune_logp,
        token_min_logp=options.token_min_logp,
    )
    best: dict[str, Candidate] = {}
    for text, _, _, logit_score, lm_score in beams:
        best.setdefault(text, Candidate(text, float(logit_score), float(lm_score)))
        if len(best) == options.nbest:
            break
    return tuple(best.values())


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


def set_weights(decoder: Any, weights: Weights, options: BeamOptions) -> None:
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


@lru_cache(maxsize=1)
def _open(folder: Path, split: str) -> tuple[LogProbs, Array]:
    log_probs = read_log_probs(folder, split)
    return log_probs, log_probs.frames()


@lru_cache(maxsize=1)
def _decoder(vocabulary: Vocabulary, lm: LmFiles | None) -> Any:
    return make_decoder(vocabulary, lm)


def spellable_share(words: Sequence[str], vocabulary: Vocabulary) -> float:
    """Share of the words whose every character occurs in some label; 1 for no words."""
    characters = set("".join(vocabulary.tokens))
    return sum(set(word) <= characters for word in words) / len(words) if words else 1.0
