"""Greedy CTC search: the best label of each frame, repeats merged, blanks dropped (Graves et al. 2006)."""

from collections.abc import Iterator

import numpy as np

from hlas.decode.logprobs import Array, LogProbs


def collapse(labels: Array, blank: int) -> Array:
    """Token ids of a path of labels (frames,): a run of one label counts once, then blanks go."""
    starts = np.ones(labels.shape, dtype=bool)
    starts[1:] = labels[1:] != labels[:-1]
    kept: Array = labels[starts & (labels != blank)]
    return kept


def greedy_texts(log_probs: LogProbs) -> Iterator[str]:
    """The text of each utterance of a split, in the order of the index."""
    vocabulary, frames = log_probs.vocabulary, log_probs.frames()
    for utterance in log_probs.utterances:
        own = frames[utterance.first_frame : utterance.first_frame + utterance.frames]
        yield vocabulary.text(collapse(own.argmax(axis=1), vocabulary.blank).tolist())
