"""What the systems take for what, which words only one of them gets right, which utterances go worst."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hlas.report.breakdown import Confusion, Confusions, OnlyRight, VocabularyRecall
from hlas.report.counts import DELETION, INSERTION, SUBSTITUTION, TextCounts

Ints = npt.NDArray[np.int64]

KEPT = 50  # of each list of words; 'kept' here means written to metrics.json and shown
WORST_KEPT = 20


def confusions(
    names: Sequence[str],
    references: Sequence[Sequence[str]],
    hypotheses: Sequence[Sequence[str]],
    counts: Sequence[TextCounts],
) -> list[Confusions]:
    """The confusions of each system; `references` and `hypotheses` hold each system's normalised texts."""
    out = []
    of_words: Counter[str] = Counter()
    of_characters: Counter[str] = Counter()
    counted: Sequence[str] | None = None
    for name, refs, hyps, count in zip(names, references, hypotheses, counts, strict=True):
        if refs != counted:  # the systems' references are hardly ever different
            of_words, of_characters, counted = _occurrences(refs), Counter("".join(refs)), refs
        found = _word_pairs(refs, hyps, count)
        out.append(
            Confusions(
                name,
                _commonest(found[SUBSTITUTION], of_words),
                _commonest(found[DELETION], of_words),
                _commonest(found[INSERTION], of_words),
                _commonest(count.confused, of_characters),
            )
        )
    return out


def _occurrences(texts: Sequence[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for text in texts:
        found.update(text.split())
    return found


def _word_pairs(
    references: Sequence[str], hypotheses: Sequence[str], counts: TextCounts
) -> dict[int, Counter[tuple[str, str]]]:
    """(reference's word, hypothesis's) of every error, by its kind; '' where there is none."""
    found: dict[int, Counter[tuple[str, str]]] = {kind: Counter() for kind in (SUBSTITUTION, DELETION, INSERTION)}
    edits = counts.edits
    current, words, heard = -1, [""], [""]
    table = np.stack([edits.utterance, edits.kind, edits.reference, edits.hypothesis], axis=1).tolist()
    for utterance, kind, source, target in table:
        if utterance != current:
            current, words, heard = utterance, references[utterance].split(), hypotheses[utterance].split()
        found[kind]["" if kind == INSERTION else words[source], "" if kind == DELETION else heard[target]] += 1
    return found


def _commonest(pairs: Counter[tuple[str, str]], of: Counter[str]) -> tuple[Confusion, ...]:
    """Ties in alphabetical order, so that the same data gives the same list."""
    order = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:KEPT]
    return tuple(Confusion(ref, hyp, count, of[ref] if ref else 0) for (ref, hyp), count in order)


def right_words(counts: Sequence[TextCounts]) -> npt.NDArray[np.bool_]:
    """(systems, reference words of all utterances): whether the system has that word right."""
    words = counts[0].column("reference_words")
    starts = np.cumsum(words) - words
    right = np.ones((len(counts), int(words.sum())), np.bool_)
    for row, count in zip(right, counts, strict=True):
        for kind in (SUBSTITUTION, DELETION):
            edits = count.edits.of_kind(kind)
            row[starts[edits.utterance] + edits.reference] = False
    return right


def only_right(names: Sequence[str], references: Sequence[str], right: npt.NDArray[np.bool_]) -> list[OnlyRight]:
    """The words that one system alone has right; `right` is that of `right_words`, over the same references."""
    words = [word for text in references for word in text.split()]
    utterance = np.repeat(np.arange(len(references)), [len(text.split()) for text in references])
    alone = right.sum(axis=0) == 1
    out = []
    for name, row in zip(names, right, strict=True):
        here = np.flatnonzero(row & alone)
        found = Counter(words[i] for i in here)
        commonest = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:KEPT]
        out.append(OnlyRight(name, len(here), len(np.unique(utterance[here])), tuple(commonest)))
    return out


def vocabulary_recall(
    names: Sequence[str], references: Sequence[str], right: npt.NDArray[np.bool_], known_words: frozenset[str]
) -> list[VocabularyRecall]:
    """How many of the words that the LM knows, and of the others, each system has right."""
    known = np.array([word in known_words for text in references for word in text.split()], np.bool_)
    return [
        VocabularyRecall(
            name, int(known.sum()), int((row & known).sum()), int((~known).sum()), int((row & ~known).sum())
        )
        for name, row in zip(names, right, strict=True)
    ]


def worst(counts: TextCounts) -> tuple[int, ...]:
    """Indices of the utterances with the most errors; of those with as many the shorter first."""
    errors, words = counts.utterances[:, :3].sum(axis=1), counts.column("reference_words")
    order = np.lexsort((np.arange(len(errors)), words, -errors))[:WORST_KEPT]
    return tuple(int(i) for i in order if errors[i])
