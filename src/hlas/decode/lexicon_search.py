"""Backend `flashlight`: flashlight-text's lexicon search, in which only the LM's words can be found.

The lexicon spells every word of unigrams.txt in labels. Characters end a word by their space; pieces end it by the
last one, which therefore cannot last for two frames: the search is made for characters.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from hlas.decode.logprobs import WORD_START, Array, BadLogProbs, Vocabulary, normalised
from hlas.decode.search import Found, NBest, SearchOptions
from hlas.decode.tune import Weights
from hlas.decode.word_times import Span, WordTimer
from hlas.errors import UserError
from hlas.lm.ngram import LmFiles

LN_10 = float(np.log(10))  # KenLM's logarithms are common ones
IMPOSSIBLE = -1e9  # flashlight adds scores: an infinity would become NaN


class LexiconSearch:
    """flashlight-text's LexiconDecoder with KenLM."""

    batch = 1

    def __init__(self, vocabulary: Vocabulary, lm: LmFiles | None, options: SearchOptions) -> None:
        assert lm is not None  # check_search has refused it
        text = _flashlight()
        self._options = options
        self._vocabulary = vocabulary
        self._timer = WordTimer(vocabulary) if options.word_times else None
        self._space = vocabulary.tokens.index(" ") if " " in vocabulary.tokens else vocabulary.blank
        self._words = list(dict.fromkeys(lm.words()))
        dictionary = text.dictionary.Dictionary(self._words)
        self._kenlm = text.decoder.kenlm.KenLM(str(lm.model), dictionary)
        self._trie = text.decoder.Trie(len(vocabulary.tokens) + 1, self._space)
        start = self._kenlm.start(False)
        spelled = 0
        for index, word in enumerate(self._words):
            score = self._kenlm.score(start, index)[1]
            for spelling in spellings(word, vocabulary):
                self._trie.insert(spelling, index, score)
                spelled += 1
        if not spelled:
            fix = "name an LM of the model's language"
            raise UserError(str(lm.unigrams), "the model's labels spell none of its words", fix)
        self._trie.smear(text.decoder.SmearingMode.MAX)
        self._text = text

    def decode(self, batch: Sequence[Array], weights: Sequence[Weights]) -> list[tuple[NBest, ...]]:
        """See Backend."""
        out = []
        for position, frames in enumerate(batch):
            try:
                emissions = np.maximum(normalised(frames), IMPOSSIBLE)
            except BadLogProbs as error:
                raise BadLogProbs(error.frame, position) from None
            out.append(tuple(self._search(frames, emissions, at) for at in weights))
        return out

    def _search(self, frames: Array, emissions: Array, weights: Weights) -> NBest:
        silence = float(emissions[:, self._vocabulary.blank].sum())
        if not len(frames):
            return (Found("", silence, silence),)
        # a last frame for the space that ends the last word
        end = np.full((1, emissions.shape[1]), IMPOSSIBLE)
        end[0, self._space] = 0.0
        data = np.ascontiguousarray(np.concatenate([emissions, end]), dtype=np.float32)
        results = self._decoder(emissions, weights).decode(data.ctypes.data, *data.shape)
        times = None if self._timer is None else self._timer.of(frames)
        found: dict[str, Found] = {}
        for result in results:
            words = [self._words[i] for i in result.words if i >= 0]
            text = " ".join(words)
            rest = result.score - weights.alpha * LN_10 * result.lmScore - weights.beta * len(words)
            timed = () if times is None else times(text, list(self._spans(result, len(frames))))
            found.setdefault(text, Found(text, rest, result.score, timed))
            if len(found) == self._options.nbest:
                break
        return tuple(found.values()) or (Found("", silence, silence),)

    def _decoder(self, emissions: Array, weights: Weights) -> Any:
        options, decoder = self._options, self._text.decoder
        tried = int((emissions >= options.token_min_logp).sum(axis=1).max())
        given = decoder.LexiconDecoderOptions(
            beam_size=options.width,
            beam_size_token=max(tried, 1),
            beam_threshold=-options.beam_prune_logp,
            lm_weight=weights.alpha * LN_10,
            word_score=weights.beta,
            unk_score=-math.inf,  # anything above would look the unknown word up
            sil_score=0.0,
            # a blank as the label between words comes twice at each frame: its sum would be a wrong one
            log_add=self._space != self._vocabulary.blank,
            criterion_type=decoder.CriterionType.CTC,
        )
        # the label that stands between words: where there is no space it must be the blank, else nothing may
        return decoder.LexiconDecoder(
            given, self._trie, self._kenlm, self._space, self._vocabulary.blank, -1, [], False
        )

    def _spans(self, result: Any, frames: int) -> Iterator[Span]:
        """First frame of each word and the one after its last label; flashlight puts a frame before and after."""
        silent = {self._vocabulary.blank, self._space}
        first = last = -1
        for frame, (label, word) in enumerate(zip(result.tokens[1:], result.words[1:], strict=True)):
            if label not in silent and label >= 0 and frame < frames:
                first, last = (frame if first < 0 else first), frame
            if word >= 0:
                yield max(first, 0), max(last, 0) + 1
                first = last = -1


def spellings(word: str, vocabulary: Vocabulary) -> list[list[int]]:
    """The ways in which labels spell a word, none where they cannot.

    Pieces: as merged in the order of the vocabulary, which is SentencePiece's for BPE, and in the fewest pieces, which
    is near to a unigram model's choice.
    """
    ids = {token: i for i, token in enumerate(vocabulary.tokens)}
    if vocabulary.unit == "char":
        letters = [ids.get(c) for c in word]
        end = [ids[" "]] if " " in ids else []
        return [] if None in letters else [[i for i in letters if i is not None] + end]
    found = [_merged(WORD_START + word, ids), _fewest(WORD_START + word, ids)]
    return list({tuple(s): s for s in found if s}.values())


def _merged(text: str, ids: dict[str, int]) -> list[int]:
    pieces = list(text)
    while True:
        pairs = [(ids[a + b], i) for i, (a, b) in enumerate(pairwise(pieces)) if a + b in ids]
        if not pairs:
            return [ids[p] for p in pieces] if all(p in ids for p in pieces) else []
        _, i = min(pairs)
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]


def _fewest(text: str, ids: dict[str, int]) -> list[int]:
    best: list[list[int] | None] = [[]] + [None] * len(text)
    longest = max(map(len, ids), default=0)
    for end in range(1, len(text) + 1):
        for start in range(max(0, end - longest), end):
            before, label = best[start], ids.get(text[start:end])
            if before is not None and label is not None and len(before) + 1 < len(best[end] or range(end + 1)):
                best[end] = [*before, label]
    return best[-1] or []


def _flashlight() -> Any:
    try:
        import flashlight.lib.text as text
        import flashlight.lib.text.decoder.kenlm
        import flashlight.lib.text.dictionary  # noqa: F401  # an attribute of `text` once it is imported
    except ImportError as error:
        problem = f"needs the package flashlight-text ({error})"
        raise UserError("search.backend: flashlight", problem, "pip install 'hlas[flashlight]'") from error
    return text
