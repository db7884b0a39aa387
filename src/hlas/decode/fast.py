"""Backend `fast`: our C++ beam search. Scores, pruning and texts are those of the reference (hlas.decode.beam)."""

import ctypes
import weakref
from collections.abc import Sequence

import numpy as np

from hlas.decode.core import Options, load_core
from hlas.decode.logprobs import Array, BadLogProbs, Vocabulary
from hlas.decode.search import Found, NBest, SearchOptions
from hlas.decode.tune import Weights
from hlas.decode.word_times import WordTimer
from hlas.errors import UserError
from hlas.lm.ngram import LmFiles


class FastSearch:
    """A session of the C++ core; not for two threads at once."""

    batch = 1

    def __init__(self, vocabulary: Vocabulary, lm: LmFiles | None, options: SearchOptions) -> None:
        self._core = load_core()
        self._options = options
        self._columns = len(vocabulary.tokens) + 1
        self._timer = WordTimer(vocabulary) if options.word_times else None
        self._lm = None if lm is None else _open_lm(self._core, lm)
        labels, hotwords = _joined(vocabulary.tokens), _joined([word for word, _ in options.hotwords])
        bonuses = (ctypes.c_double * len(options.hotwords))(*(weight for _, weight in options.hotwords))
        given = Options(
            options.beam_prune_logp,
            options.token_min_logp,
            options.unk_score_offset,
            options.width,
            options.prune_history,
            vocabulary.unit == "bpe",
        )
        self._session = self._core.hlas_search_open(
            self._lm, labels, len(labels), hotwords, len(hotwords), bonuses, ctypes.byref(given)
        )
        self._check(bool(self._session))
        weakref.finalize(self, _close, self._core, self._session, self._lm)

    def decode(self, batch: Sequence[Array], weights: Sequence[Weights]) -> list[tuple[NBest, ...]]:
        """See Backend; reads the arrays where they are, in the type they have."""
        out = []
        for position, frames in enumerate(batch):
            data = np.ascontiguousarray(frames)
            if data.ndim != 2 or data.shape[1] != self._columns or data.dtype.kind != "f":
                raise ValueError(
                    f"log-probs of shape {data.shape} and type {data.dtype}, {self._columns} columns expected"
                )
            bad = self._core.hlas_search_load(self._session, data.ctypes.data, len(data), data.itemsize)
            if bad >= 0:
                raise BadLogProbs(bad, position)
            self._check(bad == -1)
            out.append(tuple(self._search(data, at) for at in weights))
        return out

    def _search(self, frames: Array, weights: Weights) -> NBest:
        count = self._core.hlas_search_run(self._session, weights.alpha, weights.beta, self._options.nbest)
        self._check(count >= 0)
        times = None if self._timer is None else self._timer.of(frames)
        scores, words = (ctypes.c_double * 2)(), ctypes.c_int64()
        spans = ctypes.POINTER(ctypes.c_int32)()
        found: dict[str, Found] = {}
        for index in range(count):
            raw = self._core.hlas_search_result(self._session, index, scores, ctypes.byref(spans), ctypes.byref(words))
            text = " ".join(raw.decode().split())  # a label may be white space of another kind than ' '
            flat = spans[: 2 * words.value]
            timed = () if times is None else times(text, list(zip(flat[::2], flat[1::2], strict=True)))
            found.setdefault(text, Found(text, scores[0], scores[1], timed))
        return tuple(found.values())

    def _check(self, fine: bool) -> None:
        if not fine:
            raise RuntimeError(self._core.hlas_search_error().decode(errors="replace"))


def _open_lm(core: ctypes.CDLL, lm: LmFiles) -> int:
    words = "".join(f"{word}\n" for word in lm.words()).encode()
    handle: int | None = core.hlas_search_open_lm(str(lm.model).encode(), words, len(words))
    if not handle:
        problem = core.hlas_search_error().decode(errors="replace")
        raise UserError(str(lm.model), f"not an LM that KenLM can read: {problem}", "make it with an lm stage or lmplz")
    return handle


def _close(core: ctypes.CDLL, session: int, lm: int | None) -> None:
    core.hlas_search_close(session)
    if lm is not None:
        core.hlas_search_close_lm(lm)


def _joined(texts: Sequence[str]) -> bytes:
    return "".join(f"{text}\0" for text in texts).encode()
