"""Why a search or its LM makes things worse: the causes that can be told from the data, before and after the search.

What is certain is an error that says how to mend it; what is likely is a warning. Each check names one cause: log-probs
of another base or with the blank elsewhere, an LM of another unit, alphabet or normalisation, words it does not know.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from hlas.decode.greedy import collapse
from hlas.decode.logprobs import WORD_START, Array, LogProbs, Vocabulary
from hlas.decode.tune import Tuned, count_edits, edge_warnings
from hlas.errors import UserError
from hlas.lm.ngram import LmFiles
from hlas.lm.token_text import OFFSET
from hlas.manifests.text import Language

SAMPLE_FRAMES = 4000  # that are looked at, spread evenly over a split
SAMPLE_WORDS = 20_000
SUM_TOLERANCE = 0.01  # mean distance of a frame's probabilities from 1; of float16 log-probs 0.001
BLANK_OFTEN = 0.3  # a label that is best in so many of the frames may be the blank
SAMPLE_UTTERANCES = 50
UNFIT_WORDS = 0.05  # share of the LM's words that is worth a warning
HIGH_OOV = 0.15  # share of the reference's words
TOKEN_LIKE = 0.9  # share of the LM's words that look like tokens


def check_log_probs(where: str, log_probs: LogProbs) -> list[str]:
    """Warnings about a split's log-probs; raises UserError where base or blank are certainly wrong."""
    every = max(1, sum(u.frames for u in log_probs.utterances) // SAMPLE_FRAMES)
    frames = np.asarray(log_probs.frames()[::every], dtype=np.float64)
    if not len(frames) or np.isnan(frames).any():
        return []  # the search names the utterance
    _check_blank(where, frames, log_probs)
    return _check_base(where, frames)


def _check_base(where: str, frames: Array) -> list[str]:
    def is_one(sums: Array) -> bool:
        return bool(np.abs(sums - 1).mean() < SUM_TOLERANCE)

    with np.errstate(over="ignore"):
        if is_one(np.exp(frames).sum(axis=1)):
            return []
        if frames.min() >= 0 and is_one(frames.sum(axis=1)):
            raise UserError(where, "these are probabilities, not log-probs", "write their natural logarithm")
        if is_one(np.power(10.0, frames).sum(axis=1)):
            raise UserError(where, "these log-probs are of base 10", "multiply them by ln 10 = 2.302585")
        if is_one(np.exp2(frames).sum(axis=1)):
            raise UserError(where, "these log-probs are of base 2", "multiply them by ln 2 = 0.693147")
    return ["the log-probs do not sum to 1: logits? The search normalises them; other programs may not"]


def _check_blank(where: str, frames: Array, log_probs: LogProbs) -> None:
    """Refuse log-probs that make far better texts once another column is taken for the blank."""
    vocabulary = log_probs.vocabulary
    shares = np.bincount(frames.argmax(axis=1), minlength=frames.shape[1]) / len(frames)
    top = int(shares.argmax())
    if top == vocabulary.blank or shares[top] < BLANK_OFTEN:
        return
    as_it_is, moved = (_character_errors(log_probs, blank) for blank in (vocabulary.blank, top))
    if moved < as_it_is / 2:
        problem = f"the blank is not the last column but column {top}, which is best in {100 * shares[top]:.0f} %"
        raise UserError(where, f"{problem} of the frames", "move that column behind those of the tokens")


def _character_errors(log_probs: LogProbs, blank: int) -> int:
    """Character errors of greedy texts of the first utterances if that column were the blank, the tokens around it."""
    frames, errors = log_probs.frames(), 0
    for utterance in log_probs.utterances[:SAMPLE_UTTERANCES]:
        own = frames[utterance.first_frame : utterance.first_frame + utterance.frames]
        columns = collapse(np.asarray(own).argmax(axis=1), blank)
        text = log_probs.vocabulary.text((columns - (columns > blank)).tolist())
        errors += count_edits(utterance.row.text, text)[1]
    return errors


def check_lm(where: str, lm: LmFiles, vocabulary: Vocabulary, language: Language) -> list[str]:
    """Warnings about an LM for a search over that vocabulary; raises UserError where it can only do harm."""
    if lm.unit == "token":
        if lm.tokens and lm.tokens != vocabulary.tokens:
            raise UserError(
                where,
                f"the LM is of {len(lm.tokens)} tokens, the log-probs are of {len(vocabulary.tokens)} others",
                "build it with the tokenizer of the acoustic model",
            )
        return []
    words = lm.words()
    sample = words[:: max(1, len(words) // SAMPLE_WORDS)]
    _check_unit(where, sample, vocabulary)
    unspellable = [word for word in sample if not spells(vocabulary, word)]
    changed = [word for word in sample if language.normalise(word) != word]
    if len(unspellable) == len(sample):
        cause = f"; through the language's rules '{sample[0]}' would be '{language.normalise(sample[0])}'"
        raise UserError(
            where,
            "the model's labels spell none of the LM's words, e.g. "
            + ", ".join(sample[:3])
            + (cause if len(changed) == len(sample) else ""),
            "train both on one language's normalised text; labels: " + " ".join(vocabulary.tokens[:40]),
        )
    warnings = []
    if len(changed) > UNFIT_WORDS * len(sample):
        warnings.append(
            f"{_percent(changed, sample)} of the LM's words are not as the language's rules write them "
            f"({_examples(changed)}): the LM's text was normalised differently (capitals, punctuation?)"
        )
    if len(unspellable) > UNFIT_WORDS * len(sample):
        warnings.append(
            f"the labels cannot spell {_percent(unspellable, sample)} of the LM's words ({_examples(unspellable)})"
        )
    return warnings


def _check_unit(where: str, words: Sequence[str], vocabulary: Vocabulary) -> None:
    """Refuse an LM of tokens or pieces for a search that asks it for words."""
    fix = "give the search an LM of words, or take 'backend: beam_batch' for an LM of tokens"
    encoded = sum(len(word) == 1 and OFFSET <= ord(word) < OFFSET + len(vocabulary.tokens) for word in words)
    plain = sum(len(word) == 1 and spells(vocabulary, word) for word in words)
    if encoded >= TOKEN_LIKE * len(words) and encoded > plain:
        raise UserError(where, "its words are tokens in NeMo's encoding, and the search asks for words", fix)
    pieces = set(vocabulary.tokens)
    marked = vocabulary.unit == "bpe" and any(word.startswith(WORD_START) for word in words)
    if marked and sum(word in pieces for word in words) >= TOKEN_LIKE * len(words):
        raise UserError(where, "its words are subword pieces, and the search asks for whole words", fix)
    if vocabulary.unit == "char" and plain >= TOKEN_LIKE * len(words) and len(words) > 1:
        raise UserError(where, "its words are single letters, and the search asks for whole words", fix)


def spells(vocabulary: Vocabulary, word: str) -> bool:
    """Whether every character of the word occurs in some label."""
    return _characters(vocabulary).issuperset(word)


@cache
def _characters(vocabulary: Vocabulary) -> frozenset[str]:
    return frozenset("".join(vocabulary.tokens))


def check_oov(split: str, words: int, oov_words: int) -> list[str]:
    """A warning where the LM does not know much of what is said on a split that may be looked at."""
    if not words or oov_words <= HIGH_OOV * words:
        return []
    share = f"{100 * oov_words / words:.0f} %"
    return [f"the LM does not know {share} of the words of {split}, which it can hardly help to find: add text"]


def check_tuned(outcome: Tuned) -> list[str]:
    """Warnings about the chosen weights."""
    warnings = edge_warnings(outcome.at_edge)
    if outcome.chosen.weights.alpha == 0:
        warnings.append("the best alpha is 0: the LM is of no help; is it of this language and kind of text?")
    return warnings


def explain_loss(split: str, wer: float, greedy_wer: float, *, has_lm: bool, tuned: bool, found: Sequence[str]) -> str:
    """What to look at where a search on `split` is worse than none; `found` are the warnings given before."""
    told = f"{split}: the search is worse than greedy (WER {wer:.4f}, greedy {greedy_wer:.4f})"
    if not has_lm:
        return f"{told}: is the width too small, or are token_min_logp and beam_prune_logp too near to 0?"
    causes = list(found)
    if not tuned:
        causes.append("its weights are not tuned: set tune_on: dev")
    causes.append("the LM's text is of another language, unit or normalisation than the labels")
    return f"{told}; likely causes: " + "; ".join(causes)


def _percent(some: Sequence[str], all_: Sequence[str]) -> str:
    return f"{100 * len(some) / len(all_):.0f} %"


def _examples(words: Sequence[str]) -> str:
    return ", ".join(words[:3])
