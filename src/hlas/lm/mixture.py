"""Linear mixture of n-gram models: weights by EM on dev, then one back-off model of all their n-grams.

p(w | h) = sum of weight_i * p_i(w | h), where p_i of a word that model i does not know is 0. The merged model holds
exactly that for every n-gram of any of the models; to all others it backs off with weights that make each distribution
sum to 1 (Stolcke 2002, SRILM's static mixture), which there only comes near to the sum.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hlas.lm.arpa import BEGIN, BackoffModel, Floats, Ids, Ngrams, key_rows

MAX_ROUNDS = 1000
CONVERGED = 1e-7  # change of a weight in one round of EM


@dataclass(frozen=True, slots=True)
class Weighed:
    """What EM made of dev."""

    weights: tuple[float, ...]  # of the models, sum 1
    perplexity: float | None  # of the exact mixture, a token that no model knows left out; None for an empty text


def token_probabilities(models: Sequence[Path], sentences: Sequence[str]) -> Floats:
    """Probability of each token, sentence ends counted, under each KenLM file: (tokens, models), 0 if it is not known.

    Tokens that no model knows are left out.
    """
    import kenlm

    columns = []
    for path in models:
        model = kenlm.Model(str(path))
        scored = [token for sentence in sentences for token in model.full_scores(sentence)]
        columns.append([0.0 if unknown else 10.0**log10_p for log10_p, _, unknown in scored])
    p = np.array(columns, np.float64).reshape(len(models), -1).T
    known: Floats = p[p.any(axis=1)]
    return known


def estimate_weights(p: Floats) -> Weighed:
    """Weights of the likeliest mixture of token probabilities (tokens, models), by expectation maximisation."""
    models = p.shape[1]
    weights = np.full(models, 1 / models)
    if not len(p):
        return Weighed(tuple(weights.tolist()), None)
    for _ in range(MAX_ROUNDS):
        shares = p * weights
        new = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)
        change, weights = np.abs(new - weights).max(), new
        if change < CONVERGED:
            break
    return weigh(p, weights.tolist())


def weigh(p: Floats, weights: Sequence[float]) -> Weighed:
    """The mixture of those weights."""
    if not len(p):
        return Weighed(tuple(weights), None)
    with np.errstate(divide="ignore"):
        perplexity = float(np.exp(-np.log(p @ np.array(weights)).mean()))
    return Weighed(tuple(weights), perplexity if np.isfinite(perplexity) else None)


def shared_perplexities(p: Floats, weights: Sequence[float]) -> tuple[list[float], float] | None:
    """Perplexity of each model and of their mixture over the tokens that all of them know, so that they compare.

    None where there is no such token.
    """
    shared = p[(p > 0).all(axis=1)]
    mixed = weigh(shared, weights).perplexity
    return None if mixed is None else (np.exp(-np.log(shared).mean(axis=0)).tolist(), mixed)


def merge(models: Sequence[BackoffModel], weights: Sequence[float], words: Sequence[str]) -> BackoffModel:
    """One model of all n-grams; all models number their words alike, and `words` spells them."""
    merged = BackoffModel(len(words), ())
    for order in range(1, max(len(model.orders) for model in models) + 1):
        rows = _union(merged, (m.orders[order - 1] for m in models if len(m.orders) >= order))
        p = np.zeros(len(rows))
        for model, weight in zip(models, weights, strict=True):
            p += weight * np.power(10.0, model.log10_prob(rows))
        if order == 1:
            p[rows[:, 0] == words.index(BEGIN)] = 0.0  # never predicted
        else:
            merged = _with_backoffs(merged, rows, p)
        with np.errstate(divide="ignore"):
            log10_p = np.maximum(np.log10(p), -99.0)
        ngrams = Ngrams(rows, key_rows(merged, rows), log10_p, np.zeros(len(rows)))
        merged = BackoffModel(merged.vocabulary, (*merged.orders, ngrams))
    return merged


def _union(shorter: BackoffModel, parts: Iterable[Ngrams]) -> Ids:
    """The n-grams of all parts, each once, sorted by their keys."""
    rows = np.concatenate([part.rows for part in parts])
    _, first = np.unique(key_rows(shorter, rows), return_index=True)
    out: Ids = rows[first]
    return out


def _with_backoffs(shorter: BackoffModel, rows: Ids, p: Floats) -> BackoffModel:
    """The model so far, its longest n-grams given the back-off weights that the n-grams `rows` with `p` ask for."""
    last = shorter.orders[-1]
    history = shorter.find(rows[:, :-1])
    taken = np.bincount(history, p, len(last.keys))
    lower = np.bincount(history, np.power(10.0, shorter.log10_prob(rows[:, 1:])), len(last.keys))
    left, lower_left = np.maximum(1 - taken, 0.0), 1 - lower
    with np.errstate(divide="ignore", invalid="ignore"):
        # where every word is listed nothing is left on either side, and the weight is never asked for
        backoff = np.where(lower_left > 1e-7, np.log10(left / lower_left), 0.0)
    backoff[np.bincount(history, minlength=len(last.keys)) == 0] = 0.0
    return BackoffModel(shorter.vocabulary, (*shorter.orders[:-1], replace(last, backoff=np.maximum(backoff, -99.0))))
