"""A CTC model on recordings of any length: cut at quiet points, search each piece, words with times."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from hlas.decode.diagnosis import spells
from hlas.decode.logprobs import WORD_START, Array, Vocabulary
from hlas.decode.search import SearchOptions, open_backend
from hlas.decode.tune import Weights
from hlas.errors import UserError
from hlas.lm.ngram import LmFiles
from hlas.models.nemo_ctc import Audio, CtcModel
from hlas.models.subtitles import group_words
from hlas.models.transcripts import Segment, Transcript

LONGEST_S = 20.0  # a model is trained on clips, and self-attention's memory grows with the square of the length
SEARCH_S = 6.0  # the quietest point is looked for in the last seconds of a piece
QUIET_S = 0.2  # length over which quietness is measured
SHORTEST_S = 0.1  # less than this gives a model no frame to hear

# A search: log-probs (frames, vocabulary + 1) -> words, their times in seconds from the first frame
Search = Callable[[Array], list[Segment]]


@dataclass(frozen=True)
class LongCtc:
    """A CTC model with its search."""

    model: CtcModel
    search: Search

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate that `transcribe` takes."""
        return self.model.sample_rate_hz

    def transcribe(self, audio: Audio) -> Transcript:
        """Transcribe (samples,), mono, of any length."""
        rate = self.sample_rate_hz
        pieces = [p for p in cut_at_quiet(audio, rate) if p.stop - p.start >= SHORTEST_S * rate]
        log_probs = self.model.log_probs([audio[piece] for piece in pieces]) if pieces else []
        words: list[Segment] = []
        for piece, frames in zip(pieces, log_probs, strict=True):
            start_s, end_s = piece.start / rate, piece.stop / rate
            words += [_moved(word, start_s, end_s) for word in self.search(frames)]
        return Transcript(tuple(group_words(words)), len(audio) / rate)


def _moved(word: Segment, by_s: float, last_s: float) -> Segment:
    """The word by that much later, but not beyond its piece: a model's last frame may reach past the audio."""
    start_s, end_s = min(word.start_s + by_s, last_s), min(word.end_s + by_s, last_s)
    return Segment(round(start_s, 3), round(end_s, 3), word.text)


def cut_at_quiet(audio: Audio, sample_rate_hz: int, longest_s: float = LONGEST_S) -> list[slice]:
    """Consecutive pieces of at most `longest_s`, cut at the quietest point near their end; all samples are kept."""
    longest, search = int(longest_s * sample_rate_hz), int(min(SEARCH_S, longest_s / 2) * sample_rate_hz)
    pieces, start = [], 0
    while len(audio) - start > longest:
        near = audio[start + longest - search : start + longest]
        stop = start + longest - search + _quietest(near, int(QUIET_S * sample_rate_hz))
        pieces.append(slice(start, stop))
        start = stop
    return [*pieces, slice(start, len(audio))]


def _quietest(audio: Audio, width: int) -> int:
    """Middle of the `width` samples with the least energy."""
    energy = np.concatenate([[0.0], np.cumsum(audio.astype(np.float64) ** 2)])
    return int(np.argmin(energy[width:] - energy[:-width])) + width // 2


def greedy_search(vocabulary: Vocabulary) -> Search:
    """The search that takes each frame's best label."""
    return lambda frames: list(timed_words(frames.argmax(axis=1), vocabulary))


def beam_search(vocabulary: Vocabulary, lm: LmFiles, options: SearchOptions, weights: Weights) -> Search:
    """The beam search with an LM; UserError where the labels spell none of its words."""
    words = lm.words()
    if words and not any(spells(vocabulary, word) for word in words):
        labels = " ".join(vocabulary.tokens[:40])
        raise UserError(
            str(lm.model), f"the model's labels spell none of its words: {labels}", "name an LM of the model's language"
        )
    backend = open_backend(vocabulary, lm, replace(options, word_times=True))

    def search(frames: Array) -> list[Segment]:
        ((nbest,),) = backend.decode([frames], [weights])
        return [Segment(word.start_s, word.end_s, word.word) for word in nbest[0].words]

    return search


def timed_words(path: Array, vocabulary: Vocabulary) -> Iterator[Segment]:
    """Words of a path of labels (frames,): from the first frame of a word's first label to the last of its last."""
    starts = np.flatnonzero(np.diff(path, prepend=-1))
    stops = np.append(starts, len(path))[1:]
    text, first, last = "", 0, 0
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        label = int(path[start])
        if label == vocabulary.blank:
            continue
        token = vocabulary.tokens[label]
        for character in token.replace(WORD_START, " ") if vocabulary.unit == "bpe" else token:
            if not character.isspace():
                text, first = text + character, first if text else start
                last = stop
            elif text:
                yield Segment(first * vocabulary.frame_s, last * vocabulary.frame_s, text)
                text = ""
    if text:
        yield Segment(first * vocabulary.frame_s, last * vocabulary.frame_s, text)
