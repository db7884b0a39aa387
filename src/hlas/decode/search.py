"""One interface to every CTC beam search: `make_search(…).run(utterances, workers)` -> n-best lists.

log-probs -> a backend (`fast`, `pyctcdecode`, `flashlight`, `beam_batch`) -> candidates with scores and word times.

The score of a text is log p(acoustic) + alpha * log p(LM) + beta * words, in natural logarithms. `CAPABILITIES` says
what each backend can; a request that goes beyond it is refused in one error that names the backends that can.
Worker processes open the log-probs and the LM themselves; only utterance numbers go out and texts come back.
This module is imported where options are only planned, so it loads no heavy library.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from hlas.decode.tune import Weights
from hlas.errors import UserError
from hlas.manifests.rows import Candidate, Word
from hlas.parallel import map_chunks

if TYPE_CHECKING:
    from hlas.decode.logprobs import Array, LogProbs, Vocabulary
    from hlas.lm.ngram import LmFiles

LOG = logging.getLogger("hlas")

BackendName = Literal["auto", "fast", "pyctcdecode", "flashlight", "beam_batch"]
Feature = Literal["no_lm", "word_lm", "token_lm", "hotwords", "word_times", "prune_history"]

LARGEST_WIDTH = 1_000_000  # more prefixes than memory holds at most vocabularies
NO_LM = Weights(0.0, 0.0)  # without an LM, beta would only insert or delete tokens


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do; all of them know characters and subwords, widths, pruning and n-best lists."""

    features: frozenset[Feature]
    summary: str  # for messages and the documentation


FEATURES: dict[Feature, str] = {
    "no_lm": "a search without an LM",
    "word_lm": "a word LM",
    "token_lm": "a token LM",
    "hotwords": "hotwords",
    "word_times": "word times",
    "prune_history": "prune_history",
}

_REFERENCE: frozenset[Feature] = frozenset({"no_lm", "word_lm", "hotwords", "word_times", "prune_history"})
CAPABILITIES: dict[str, Capabilities] = {
    "fast": Capabilities(_REFERENCE, "C++, the same search and scores as pyctcdecode; needs a C++ compiler once"),
    "pyctcdecode": Capabilities(_REFERENCE, "Python, the reference; always there"),
    "flashlight": Capabilities(
        frozenset({"word_lm", "word_times"}), "C++ lexicon search: only words of unigrams.txt can be found"
    ),
    "beam_batch": Capabilities(
        frozenset({"no_lm", "token_lm"}), "NeMo's, for GPUs: a token LM of NeMo's encoding, no times"
    ),
}


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How a search works; the defaults are pyctcdecode's."""

    width: int = 100  # prefixes kept at a frame
    beam_prune_logp: float = -10.0  # prefixes so much worse than the best one go (natural log)
    token_min_logp: float = -5.0  # labels less likely than this are tried only where they are a frame's best
    unk_score_offset: float = -10.0  # added (log10, so weighted by alpha) for a word that the LM does not know
    nbest: int = 1  # candidates returned
    backend: BackendName = "auto"  # auto: fast where it can be built, else pyctcdecode; both give the same text
    prune_history: bool = False  # drop a prefix that differs from a better one only before the LM's memory
    hotwords: tuple[tuple[str, float], ...] = ()  # words to favour, each with its bonus (natural log, 10 is strong)
    word_times: bool = False  # give every candidate its words' times and confidences

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (1 <= self.width <= LARGEST_WIDTH and 1 <= self.nbest <= LARGEST_WIDTH):
            raise ValueError(f"width and nbest are 1 to {LARGEST_WIDTH}")
        if not (self.beam_prune_logp <= 0 and self.token_min_logp <= 0 and -inf < self.unk_score_offset <= 0):
            raise ValueError("beam_prune_logp, token_min_logp and unk_score_offset are numbers not above 0")
        if self.backend not in get_args(BackendName):
            raise ValueError(f"backend is one of: {', '.join(get_args(BackendName))}")
        for word, weight in self.hotwords:
            if len(word.split()) != 1 or word != word.strip() or "\0" in word or not 0 < weight < inf:
                raise ValueError(f"hotwords are single words with finite weights above 0: {word!r}, {weight}")


@dataclass(frozen=True, slots=True)
class Found(Candidate):
    """A candidate of a search, with its words where times were asked for."""

    words: tuple[Word, ...] = ()


NBest = tuple[Found, ...]  # best first, never empty


class Backend(Protocol):
    """A search that is ready to run: vocabulary, LM and options are fixed."""

    batch: int  # utterances that are best given at once

    def decode(self, batch: Sequence["Array"], weights: Sequence[Weights]) -> list[tuple[NBest, ...]]:
        """The n-best lists of utterances, one at each of the weights.

        Each array is (frames, vocabulary + 1): natural log, blank last, float16, 32 or 64. Without an LM the weights
        are NO_LM. Raises `logprobs.BadLogProbs` where a frame holds NaN or no label at all.
        """
        ...


@dataclass(frozen=True, slots=True)
class Search:
    """A search over the utterances of a split, at one or several weights; small to pickle."""

    folder: Path  # of the log-probs
    split: str
    lm: "LmFiles | None"
    options: SearchOptions
    weights: tuple[Weights, ...]

    def __post_init__(self) -> None:
        if self.lm is None and self.weights != (NO_LM,):
            raise ValueError("without an LM there is nothing to weigh")

    def __call__(self, indices: Sequence[int]) -> list[tuple[NBest, ...]]:
        """The n-best lists of the utterances, one at each of the weights."""
        from hlas.decode.logprobs import BadLogProbs

        log_probs, frames = _open_log_probs(self.folder, self.split)
        backend = _open_backend(log_probs.vocabulary, self.lm, self.options)
        out = []
        for start in range(0, len(indices), backend.batch):
            utterances = [log_probs.utterances[index] for index in indices[start : start + backend.batch]]
            batch = [frames[u.first_frame : u.first_frame + u.frames] for u in utterances]
            try:
                found = backend.decode(batch, self.weights)
            except BadLogProbs as error:
                raise error.in_utterance(log_probs, utterances[error.position]) from None
            out += [
                tuple(_within(nbest, utterance.row.duration) for nbest in at)
                for utterance, at in zip(utterances, found, strict=True)
            ]
        return out

    def run(self, utterances: int, workers: int) -> Iterator[tuple[NBest, ...]]:
        """Search the first `utterances` of the split in parallel; results in order."""
        batched = self.options.backend == "beam_batch"  # one process for the one GPU
        return map_chunks(self, range(utterances), workers=1 if batched else workers, chunk_size=64 if batched else 8)


def make_search(
    folder: Path, split: str, lm: "LmFiles | None", options: SearchOptions, weights: Sequence[Weights] = (NO_LM,)
) -> Search:
    """A search that can be run: checked, `auto` decided, a missing core built here, before any worker starts."""
    options = replace(options, backend=resolve_backend(options.backend))
    check_search("search", options, None if lm is None else lm.unit)
    return Search(folder, split, lm, options, tuple(weights))


@cache
def resolve_backend(name: BackendName) -> BackendName:
    """The backend that `auto` stands for on this machine; other names stay."""
    if name != "auto":
        return name
    from hlas.decode.core import load_core

    try:
        load_core()
    except UserError as error:
        problem = error.problem.strip().splitlines()[-1]
        LOG.warning(
            "the fast search cannot be had (%s): pyctcdecode finds the same texts, several times slower", problem
        )
        return "pyctcdecode"
    return "fast"


def check_search(where: str, options: SearchOptions, lm_unit: str | None) -> None:
    """Refuse what the backend cannot do; `lm_unit` is 'word', 'token', or None without an LM."""
    features = CAPABILITIES["fast" if options.backend == "auto" else options.backend].features
    needed: list[Feature] = ["no_lm" if lm_unit is None else "token_lm" if lm_unit == "token" else "word_lm"]
    if options.hotwords:
        needed.append("hotwords")
    if options.word_times:
        needed.append("word_times")
    if options.prune_history:
        needed.append("prune_history")
    for feature in needed:
        if feature not in features:
            able = [name for name, can in CAPABILITIES.items() if feature in can.features]
            raise UserError(
                f"{where}.backend",
                f"'{options.backend}' cannot do {FEATURES[feature]}",
                f"backends that can: {', '.join(able)}",
            )


def open_backend(vocabulary: "Vocabulary", lm: "LmFiles | None", options: SearchOptions) -> Backend:
    """The backend, loaded: seconds for a large LM."""
    options = replace(options, backend=resolve_backend(options.backend))
    check_search("search", options, None if lm is None else lm.unit)
    _check_labels(vocabulary, options.word_times)
    if options.backend == "fast":
        from hlas.decode.fast import FastSearch

        return FastSearch(vocabulary, lm, options)
    if options.backend == "flashlight":
        from hlas.decode.lexicon_search import LexiconSearch

        return LexiconSearch(vocabulary, lm, options)
    if options.backend == "beam_batch":
        from hlas.decode.batched_search import BatchedSearch

        return BatchedSearch(vocabulary, lm, options)
    from hlas.decode.beam import ReferenceSearch

    return ReferenceSearch(vocabulary, lm, options)


def _check_labels(vocabulary: "Vocabulary", word_times: bool) -> None:
    """Refuse labels with which words would not be what the text says."""
    seen: set[str] = set()
    for token in vocabulary.tokens:
        if not token or token in seen or "\0" in token:
            raise UserError(
                "vocabulary.json", f"label {token!r} is empty or there twice", "give each label a text of its own"
            )
        if vocabulary.unit == "bpe" and ("▁" in token[1:] or " " in token):
            problem = f"piece {token!r} holds the end of a word, where a search expects '▁' at a piece's start only"
            raise UserError(
                "vocabulary.json", problem, "train the tokenizer with split_by_whitespace and without suffixes"
            )
        if word_times and token != " " and any(character.isspace() for character in token):
            problem = f"label {token!r} is a white space that ends no word of a search: words have no times"
            raise UserError("vocabulary.json", problem, "write ' ' for it, or leave word_times out")
        seen.add(token)


@lru_cache(maxsize=1)
def _open_log_probs(folder: Path, split: str) -> "tuple[LogProbs, Array]":
    from hlas.decode.logprobs import read_log_probs

    log_probs = read_log_probs(folder, split)
    return log_probs, log_probs.frames()


@lru_cache(maxsize=1)
def _open_backend(vocabulary: "Vocabulary", lm: "LmFiles | None", options: SearchOptions) -> Backend:
    return open_backend(vocabulary, lm, options)


def _within(nbest: NBest, duration_s: float) -> NBest:
    """The last frame may reach beyond the clip: its words end where the clip ends."""
    if all(not c.words or c.words[-1].end_s <= duration_s for c in nbest):
        return nbest
    return tuple(
        replace(
            c,
            words=tuple(
                replace(w, start_s=min(w.start_s, duration_s), end_s=min(w.end_s, duration_s)) for w in c.words
            ),
        )
        for c in nbest
    )
