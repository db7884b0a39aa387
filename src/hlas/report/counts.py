"""Counting one system's errors: word and character alignment, n-gram matches, a block of utterances at a time.

Alignment is rapidfuzz's, which is jiwer's: Levenshtein with unit costs. All scoring goes through `count_systems`, on as
many processes as there are; the result does not depend on their number.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from hlas.parallel import map_chunks
from hlas.report.ngrams import NgramCounts, count_ngrams

Ints = npt.NDArray[np.int64]

BLEU_ORDER, CHRF_ORDER = 4, 6
SUBSTITUTION, DELETION, INSERTION = 0, 1, 2  # values of Edits.kind
COLUMNS = (
    "substitutions",
    "deletions",
    "insertions",
    "hits",
    "reference_words",
    "hypothesis_words",
    "character_errors",
    "reference_characters",
)
_BLOCK = 1000  # utterances: small enough for the processor's cache
_PARALLEL_FROM = 40  # blocks: below, starting processes takes longer than the work
_KINDS = {"replace": SUBSTITUTION, "delete": DELETION, "insert": INSERTION}


@dataclass(frozen=True, slots=True)
class Texts:
    """What one system is scored on: one text an utterance in both, words apart by single spaces."""

    references: Sequence[str]
    hypotheses: Sequence[str]
    characters: bool  # whether the confused characters are wanted


@dataclass(frozen=True, slots=True)
class Edits:
    """The errors of a system's word alignment, in the order of the utterances; arrays of one length."""

    utterance: Ints
    kind: Ints  # SUBSTITUTION, DELETION, INSERTION
    reference: Ints  # place of the word in its reference; of an insertion: the word it stands before
    hypothesis: Ints  # place of the word in its hypothesis; of a deletion: the word it would stand before

    def of_kind(self, kind: int) -> "Edits":
        """Those of one kind."""
        here = self.kind == kind
        return Edits(self.utterance[here], self.kind[here], self.reference[here], self.hypothesis[here])


@dataclass(frozen=True, slots=True)
class TextCounts:
    """All that is counted for one system, over the utterances whose reference holds a word; the others have zeros."""

    utterances: Ints  # (utterances, len(COLUMNS)); of an empty reference: hypothesis_words only
    edits: Edits
    words: NgramCounts  # up to BLEU_ORDER
    characters: NgramCounts  # up to CHRF_ORDER, spaces left out
    confused: Counter[tuple[str, str]]  # (reference's character, hypothesis's), '' where there is none

    def column(self, name: str) -> Ints:
        """One of COLUMNS, for each utterance."""
        return np.asarray(self.utterances[:, COLUMNS.index(name)])


def count_systems(systems: Sequence[Texts], workers: int) -> list[TextCounts]:
    """Count every system's errors."""
    blocks = [
        Texts(s.references[i : i + _BLOCK], s.hypotheses[i : i + _BLOCK], s.characters)
        for s in systems
        for i in range(0, len(s.references), _BLOCK)
    ]
    counted = map_chunks(_count_blocks, blocks, workers=workers if len(blocks) >= _PARALLEL_FROM else 1, chunk_size=4)
    return [_joined(counted, -(-len(s.references) // _BLOCK)) for s in systems]


def _joined(counted: Iterator[TextCounts], blocks: int) -> TextCounts:
    """The next `blocks` results as one."""
    parts = [next(counted) for _ in range(blocks)]
    starts = np.cumsum([0, *(len(part.utterances) for part in parts[:-1])])
    edits = [part.edits for part in parts]
    return TextCounts(
        np.concatenate([part.utterances for part in parts]),
        Edits(
            np.concatenate([e.utterance + start for e, start in zip(edits, starts, strict=True)]),
            np.concatenate([e.kind for e in edits]),
            np.concatenate([e.reference for e in edits]),
            np.concatenate([e.hypothesis for e in edits]),
        ),
        sum((part.words for part in parts[1:]), parts[0].words),
        sum((part.characters for part in parts[1:]), parts[0].characters),
        sum((part.confused for part in parts), Counter()),
    )


def _count_blocks(blocks: Sequence[Texts]) -> list[TextCounts]:
    return [_count(block) for block in blocks]


def _count(texts: Texts) -> TextCounts:
    """Align one block."""
    table = np.zeros((len(texts.references), len(COLUMNS)), np.int64)
    edits: list[tuple[int, int, int, int]] = []
    confused: Counter[tuple[str, str]] = Counter()
    scored: list[tuple[str, str]] = []
    split: list[tuple[list[str], list[str]]] = []
    for i, (reference, hypothesis) in enumerate(zip(texts.references, texts.hypotheses, strict=True)):
        words, heard = reference.split(), hypothesis.split()
        if not words:
            table[i, COLUMNS.index("hypothesis_words")] = len(heard)
            continue
        scored.append((reference, hypothesis))
        split.append((words, heard))
        kinds = [0, 0, 0]
        character_errors = 0
        if reference != hypothesis:
            for tag, source, target in _edit_operations(words, heard):
                kind = _KINDS[tag]
                kinds[kind] += 1
                edits.append((i, kind, source, target))
            if texts.characters:
                operations = _edit_operations(reference, hypothesis)
                character_errors = len(operations)
                confused.update(_character_pairs(reference, hypothesis, operations))
            else:
                character_errors = _distance(reference, hypothesis)
        hits = len(words) - kinds[SUBSTITUTION] - kinds[DELETION]
        table[i] = (*kinds, hits, len(words), len(heard), character_errors, len(reference))
    columns = np.array(edits, np.int64).reshape(-1, 4).T
    spelled = [(reference.replace(" ", ""), hypothesis.replace(" ", "")) for reference, hypothesis in scored]
    return TextCounts(
        table,
        Edits(*columns),
        count_ngrams([r for r, _ in split], [h for _, h in split], BLEU_ORDER),
        count_ngrams([r for r, _ in spelled], [h for _, h in spelled], CHRF_ORDER),
        confused,
    )


def _edit_operations(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[str, int, int]]:
    """(replace, delete or insert; place in the reference; place in the hypothesis), in order."""
    return cast(list[tuple[str, int, int]], Levenshtein.editops(reference, hypothesis).as_list())


def _distance(reference: str, hypothesis: str) -> int:
    return int(Levenshtein.distance(reference, hypothesis))


def _character_pairs(
    reference: str, hypothesis: str, operations: Sequence[tuple[str, int, int]]
) -> Iterator[tuple[str, str]]:
    for tag, source, target in operations:
        yield (
            "" if tag == "insert" else reference[source],
            "" if tag == "delete" else hypothesis[target],
        )
