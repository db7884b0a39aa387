"""Error rates of one system on one split, corpus level: errors are summed over all utterances, then divided.

Word and character alignment is jiwer's (Levenshtein, unit costs), BLEU is sacrebleu's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hlas.errors import UserError

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Score:
    """Error rates are fractions of the reference's words (or characters), so they can exceed 1."""

    wer: float  # (S + D + I) / reference words
    cer: float  # the same over characters, the space between words among them
    mer: float  # (S + D + I) / (H + S + D + I), in 0..1 (Morris et al. 2004)
    wil: float  # 1 - (H / reference words) * (H / hypothesis words), in 0..1 (Morris et al. 2004)
    bleu: float  # 0..100, corpus level, 4-grams of words
    sentence_error_rate: float  # share of the scored utterances with any error
    raw_wer: float | None  # WER of the text as the corpus has it and as the system wrote it; None without raw text
    substitutions: int
    deletions: int
    insertions: int
    hits: int
    utterances: int  # all, those with an empty reference among them
    words: int  # of the references
    empty_references: int  # utterances left out of every rate: there is nothing to divide by
    empty_reference_insertions: int  # words that the system heard in those; not in `insertions`
    utterance_errors: Counts  # (utterances,) S + D + I; 0 where the reference is empty
    utterance_words: Counts  # (utterances,) words of the reference

    def to_json(self) -> dict[str, Any]:
        """The scalar fields, as metrics.json has them."""
        names = [name for name in self.__slots__ if not name.startswith("utterance_")]
        return {name: getattr(self, name) for name in names}


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    raw_references: Sequence[str] = (),
    raw_hypotheses: Sequence[str] = (),
) -> Score:
    """Score normalised texts, one an utterance in both lists; an empty hypothesis is all deletions.

    The raw texts are as many, or none; pairs whose raw reference is empty do not count in `raw_wer`.
    Raises UserError where no reference holds a word.
    """
    import jiwer

    references, hypotheses = _words_only(references), _words_only(hypotheses)
    pairs = list(zip(references, hypotheses, strict=True))
    kept = [index for index, reference in enumerate(references) if reference]
    if not kept:
        raise UserError(
            "scoring", f"none of the {len(references)} references holds a word", "check the references' text"
        )
    scored_refs, scored_hyps = [references[i] for i in kept], [hypotheses[i] for i in kept]
    words = jiwer.process_words(scored_refs, scored_hyps)
    characters = jiwer.process_characters(scored_refs, scored_hyps)

    utterance_errors = np.zeros(len(pairs), np.int64)
    utterance_errors[kept] = [_errors(chunks) for chunks in words.alignments]
    return Score(
        wer=float(words.wer),
        cer=float(characters.cer),
        mer=float(words.mer),
        wil=float(words.wil),
        bleu=_bleu(scored_refs, scored_hyps),
        sentence_error_rate=float(np.count_nonzero(utterance_errors)) / len(kept),
        raw_wer=_raw_wer(raw_references, raw_hypotheses),
        substitutions=int(words.substitutions),
        deletions=int(words.deletions),
        insertions=int(words.insertions),
        hits=int(words.hits),
        utterances=len(pairs),
        words=sum(len(reference.split()) for reference in references),
        empty_references=len(pairs) - len(kept),
        empty_reference_insertions=sum(len(hyp.split()) for ref, hyp in pairs if not ref),
        utterance_errors=utterance_errors,
        utterance_words=np.array([len(reference.split()) for reference in references], np.int64),
    )


def oracle_errors(references: Sequence[str], candidates: Sequence[Iterable[str]]) -> int:
    """Word errors left if the best of each utterance's candidates were known; empty references do not count."""
    from rapidfuzz.distance import Levenshtein

    return sum(
        min(Levenshtein.distance(words, text.split()) for text in set(texts))
        for reference, texts in zip(references, candidates, strict=True)
        if (words := reference.split())
    )


def _words_only(texts: Sequence[str]) -> list[str]:
    """Any white space becomes one space: jiwer itself splits at spaces only."""
    return [" ".join(text.split()) for text in texts]


def _errors(chunks: Sequence[Any]) -> int:
    """Errors in one utterance's alignment: a chunk is a run of one kind of edit."""
    return sum(
        max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        for chunk in chunks
        if chunk.type != "equal"
    )


def _bleu(references: list[str], hypotheses: list[str]) -> float:
    """BLEU over the words as the normaliser leaves them: no tokenizer of sacrebleu's on top."""
    import sacrebleu

    return float(sacrebleu.corpus_bleu(hypotheses, [references], tokenize="none", force=True).score)


def _raw_wer(references: Sequence[str], hypotheses: Sequence[str]) -> float | None:
    import jiwer

    pairs = [(ref, hyp) for ref, hyp in zip(_words_only(references), _words_only(hypotheses), strict=True) if ref]
    if not pairs:
        return None
    return float(jiwer.process_words([ref for ref, _ in pairs], [hyp for _, hyp in pairs]).wer)
