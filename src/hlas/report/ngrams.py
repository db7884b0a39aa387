"""Matching n-grams of many pairs of texts at once, for BLEU (words) and chrF (characters).

Counting n-grams one text at a time in Python takes most of the time of scoring a large test set. Here every n-gram of
a block of texts becomes one integer: pair, its tokens, side. One sort brings equal n-grams together, for all orders at
once, as the n-grams of a lower order are prefixes of those of the highest.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain
from operator import ne

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_BITS = 64  # of a key


@dataclass(frozen=True, slots=True)
class NgramCounts:
    """Sums over all pairs; each array is (order,), for n-grams of 1 … order tokens."""

    matches: Ints  # clipped: an n-gram counts as often as both texts of its pair hold it
    reference: Ints
    hypothesis: Ints
    comparable: Ints  # those of `hypothesis` whose own reference is long enough to have n-grams of that order

    def __add__(self, other: "NgramCounts") -> "NgramCounts":
        return NgramCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def count_ngrams(references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]], order: int) -> NgramCounts:
    """Count over pairs of token sequences: lists of words, or strings as sequences of characters."""
    reference_lengths = np.fromiter(map(len, references), np.int64, len(references))
    hypothesis_lengths = np.fromiter(map(len, hypotheses), np.int64, len(hypotheses))
    totals = np.array(
        [
            [np.maximum(lengths - n, 0).sum() for n in range(order)]
            for lengths in (reference_lengths, hypothesis_lengths)
        ],
        np.int64,
    )
    comparable = [np.maximum(hypothesis_lengths - n, 0)[reference_lengths > n].sum() for n in range(order)]
    differ = np.fromiter(map(ne, references, hypotheses), np.bool_, len(references))
    pairs = [(references[i], hypotheses[i]) for i in np.flatnonzero(differ).tolist()]
    # in texts that are equal every n-gram matches
    equal = [np.maximum(reference_lengths[~differ] - n, 0).sum() for n in range(order)]
    matches = np.array(equal, np.int64) + _matches([r for r, _ in pairs], [h for _, h in pairs], order)
    return NgramCounts(matches, totals[0], totals[1], np.array(comparable, np.int64))


def _matches(references: list[Sequence[str]], hypotheses: list[Sequence[str]], order: int) -> Ints:
    """Clipped matches of each order; blocks whose keys would not fit into an integer are halved."""
    if not references:
        return np.zeros(order, np.int64)
    ids, kinds = _ids([*references, *hypotheses])
    token_bits, pair_bits = kinds.bit_length(), len(references).bit_length()
    if order * token_bits + pair_bits + 1 > _BITS:
        if len(references) == 1:
            return _matches_of_one(references[0], hypotheses[0], order)
        half = len(references) // 2
        return _matches(references[:half], hypotheses[:half], order) + _matches(
            references[half:], hypotheses[half:], order
        )
    lengths = np.array([len(text) for text in (*references, *hypotheses)], np.int64)
    keys = _keys(ids, lengths, order, token_bits)
    keys.sort()
    in_hypothesis = np.concatenate(([0], np.cumsum(keys & np.uint64(1), dtype=np.int64)))
    out = np.zeros(order, np.int64)
    last_token = np.uint64((1 << token_bits) - 1)
    for n in range(1, order + 1):
        prefixes = keys >> np.uint64(1 + token_bits * (order - n))
        edges = np.flatnonzero(prefixes[1:] != prefixes[:-1]) + 1
        starts, ends = np.concatenate(([0], edges)), np.concatenate((edges, [len(keys)]))
        hypothesis = in_hypothesis[ends] - in_hypothesis[starts]
        whole = (prefixes[starts] & last_token) != 0  # else the text ends before the n-gram does
        out[n - 1] = np.minimum(hypothesis, ends - starts - hypothesis)[whole].sum()
    return out


def _ids(texts: list[Sequence[str]]) -> tuple[npt.NDArray[np.uint64], int]:
    """A number from 1 for each kind of token, over all tokens of all texts; and how many kinds there are."""
    if all(isinstance(text, str) for text in texts):
        codes = np.frombuffer("".join(map(str, texts)).encode("utf-32-le", "surrogatepass"), np.uint32)
        number = np.cumsum(np.bincount(codes) > 0)
        return number[codes].astype(np.uint64), int(number[-1])
    tokens = list(chain.from_iterable(texts))
    known = {token: place for place, token in enumerate(dict.fromkeys(tokens), 1)}
    return np.fromiter(map(known.__getitem__, tokens), np.uint64, len(tokens)), len(known)


def _keys(ids: npt.NDArray[np.uint64], lengths: Ints, order: int, token_bits: int) -> npt.NDArray[np.uint64]:
    """One key a token: its pair, the `order` tokens from it on (0 past the text's end), 1 in a hypothesis.

    `ids` holds the tokens (from 1) of all references and then of all hypotheses; `lengths` is (2 * pairs,).
    """
    pairs = len(lengths) // 2
    text = np.repeat(np.arange(2 * pairs), lengths)
    places = np.arange(len(ids)) + text * (order - 1)
    padded = np.zeros(len(ids) + 2 * pairs * (order - 1), np.uint64)
    padded[places] = ids
    keys = (text % pairs).astype(np.uint64)
    for offset in range(order):
        keys = (keys << np.uint64(token_bits)) | padded[places + offset]
    return np.asarray((keys << np.uint64(1)) | (text >= pairs).astype(np.uint64), np.uint64)


def _matches_of_one(reference: Sequence[str], hypothesis: Sequence[str], order: int) -> Ints:
    """The same for one pair of texts with very many different tokens."""

    def grams(text: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
        return Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))

    return np.array([(grams(reference, n) & grams(hypothesis, n)).total() for n in range(1, order + 1)], np.int64)
