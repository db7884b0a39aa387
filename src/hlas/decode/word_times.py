"""Words of a candidate in seconds, each with the acoustic model's confidence in it."""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import numpy as np

from hlas.decode.logprobs import WORD_START, Array, Vocabulary, normalised
from hlas.manifests.rows import Word

Span = tuple[int, int]  # first frame of a word and the frame after its last one


class WordTimer:
    """Makes Words of frames; the labels that can spell a word are worked out once a word."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._frame_s = vocabulary.frame_s
        self._blank = vocabulary.blank
        self._labels: dict[str, list[int]] = {}  # by the text that a label adds to a word
        for label, token in enumerate(vocabulary.tokens):
            text = token.removeprefix(WORD_START) if vocabulary.unit == "bpe" else token
            self._labels.setdefault(text, []).append(label)
        self._longest = max(map(len, self._labels), default=0)
        self._graph = lru_cache(maxsize=1 << 14)(self._make_graph)

    def of(self, frames: Array) -> Callable[[str, Sequence[Span]], tuple[Word, ...]]:
        """A function (text, spans) -> words for one utterance, whose frames are (frames, vocabulary + 1)."""

        @cache  # candidates of one utterance share most of their words
        def timed(word: str, start: int, end: int) -> Word:
            confidence = self.confidence(word, frames[start:end])
            return Word(word, start * self._frame_s, end * self._frame_s, confidence)

        return lambda text, spans: tuple(timed(w, *span) for w, span in zip(text.split(), spans, strict=True))

    def confidence(self, word: str, frames: Array) -> float:
        """p(word | its frames) by the acoustic model alone, as the geometric mean over the word's characters.

        p is the sum over all paths of labels that spell the word in these frames: the forward algorithm of CTC
        (Graves et al. 2006), here over every way in which the labels can spell it. 0 to 1.
        """
        labels, moves, starts, ends = self._graph(word)
        if not len(frames) or not ends.any():
            return 0.0
        p = np.exp(normalised(frames)[:, labels])
        forward = starts * p[0]
        log_p = 0.0
        for emitted in p[1:]:
            scale = forward.sum()
            if not scale:
                return 0.0
            log_p += np.log(scale)  # the sums of long words would underflow
            forward = (forward / scale) @ moves * emitted
        total = float(forward @ ends)
        return float(np.exp((log_p + np.log(total)) / len(word))) if total else 0.0

    def _make_graph(self, word: str) -> tuple[Array, Array, Array, Array]:
        """States of the forward algorithm: label of each, moves between them, where paths start and end.

        A state is a blank after n characters, or a label that leads from n characters to m.
        """
        size = len(word)
        states = [(self._blank, n, n) for n in range(size + 1)]
        for n in range(size + 1):
            for m in range(n, min(n + self._longest, size) + 1):
                if m > n or n == 0:  # only the bare word start adds nothing, and only before the word
                    states += [(label, n, m) for label in self._labels.get(word[n:m], ())]
        labels, sources, targets = (np.array(column) for column in zip(*states, strict=True))
        blank = labels == self._blank
        follows = (targets[:, None] == sources[None, :]) & (labels[:, None] != labels[None, :])
        moves = (follows | np.eye(len(states), dtype=bool)).astype(np.float64)
        starts = (sources == 0) & (~blank | (targets == 0))
        return labels, moves, starts.astype(np.float64), (targets == size).astype(np.float64)
