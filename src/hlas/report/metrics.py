"""Error rates of one system on one split, corpus level: errors are summed over all utterances, then divided.

Counts come from `counts.py`. WER, CER, MER, WIL and WIP are jiwer's, BLEU and chrF sacrebleu's; the tests compare them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from hlas.errors import UserError
from hlas.report.counts import COLUMNS, TextCounts, Texts, count_systems
from hlas.report.ngrams import NgramCounts

Ints = npt.NDArray[np.int64]

_CHRF_BETA = 2  # recall counts so many times as much as precision: sacrebleu's and the literature's chrF2


@dataclass(frozen=True, slots=True)
class Rates:
    """Error rates are fractions of the reference's words (or characters), so they can exceed 1."""

    wer: float  # (S + D + I) / reference words
    cer: float  # the same over characters, the space between words among them
    mer: float  # (S + D + I) / (H + S + D + I), in 0..1 (Morris et al. 2004)
    wil: float  # 1 - wip, in 0..1
    wip: float  # (H / reference words) * (H / hypothesis words), in 0..1 (Morris et al. 2004)
    bleu: float  # 0..100, corpus level, 4-grams of words
    chrf: float  # 0..100, corpus level, 6-grams of characters without spaces, beta 2 (Popović 2015)
    sentence_error_rate: float  # share of the scored utterances with any error
    substitutions: int
    deletions: int
    insertions: int
    hits: int
    utterances: int  # all, those with an empty reference among them
    words: int  # of the references
    empty_references: int  # utterances left out of every rate: there is nothing to divide by
    empty_reference_insertions: int  # words that the system heard in those; not in `insertions`

    def to_json(self) -> dict[str, Any]:
        """Every field, as metrics.json has them."""
        return {f.name: getattr(self, f.name) for f in fields(Rates)}


@dataclass(frozen=True, slots=True)
class Score(Rates):
    """The rates on normalised text, those on raw text, and the counts of every utterance."""

    raw: Rates | None  # of the text as the corpus has it and as the system wrote it; None without raw text
    counts: TextCounts  # of normalised text
    utterance_errors: Ints  # (utterances,) S + D + I; 0 where the reference is empty
    utterance_words: Ints  # (utterances,) words of the reference

    @property
    def raw_wer(self) -> float | None:
        """WER of raw text: case and punctuation count."""
        return self.raw.wer if self.raw else None

    def to_json(self) -> dict[str, Any]:
        """The rates, and those of raw text under 'raw'."""
        return Rates.to_json(self) | {"raw_wer": self.raw_wer, "raw": self.raw.to_json() if self.raw else None}

    def utterance_json(self) -> list[dict[str, float | int | None]]:
        """The counts and rates of each utterance; the rates are null where its reference is empty."""
        columns = dict(zip(COLUMNS, self.counts.utterances.T.tolist(), strict=True))
        keys = ("reference_words", "substitutions", "deletions", "insertions", "hits")
        errors = self.utterance_errors.tolist()
        out = []
        for i, words in enumerate(columns["reference_words"]):
            wrong, characters = columns["character_errors"][i], columns["reference_characters"][i]
            wer, cer = (errors[i] / words, wrong / characters) if words else (None, None)
            out.append({key: columns[key][i] for key in keys} | {"wer": wer, "cer": cer})
        return out


@dataclass(frozen=True, slots=True)
class Scored:
    """The texts of one system, one an utterance in each list; of raw texts as many, or none."""

    references: Sequence[str]
    hypotheses: Sequence[str]
    raw_references: Sequence[str] = ()
    raw_hypotheses: Sequence[str] = ()


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    raw_references: Sequence[str] = (),
    raw_hypotheses: Sequence[str] = (),
) -> Score:
    """Score one system; see `score_systems`."""
    return score_systems([Scored(references, hypotheses, raw_references, raw_hypotheses)], workers=1)[0]


def score_systems(systems: Sequence[Scored], workers: int) -> list[Score]:
    """Score normalised texts; an empty hypothesis is all deletions.

    Pairs whose raw reference is empty do not count in the raw rates. Raises UserError where no reference holds a word.
    """
    texts = [_texts(s.references, s.hypotheses, characters=True) for s in systems]
    raw = [_texts(s.raw_references, s.raw_hypotheses, characters=False) for s in systems]
    for system in texts:
        if not any(system.references):
            count = len(system.references)
            raise UserError("scoring", f"none of the {count} references holds a word", "check the references' text")
    with_raw = [i for i, system in enumerate(raw) if any(system.references)]
    counted = count_systems([*texts, *(raw[i] for i in with_raw)], workers)
    raw_rates = dict(zip(with_raw, map(rates, counted[len(texts) :]), strict=True))
    return [
        Score(
            **{f.name: getattr(own, f.name) for f in fields(Rates)},
            raw=raw_rates.get(i),
            counts=counts,
            utterance_errors=counts.utterances[:, :3].sum(axis=1),
            utterance_words=counts.column("reference_words"),
        )
        for i, counts in enumerate(counted[: len(texts)])
        for own in [rates(counts)]
    ]


def rates(counts: TextCounts) -> Rates:
    """The corpus-level rates of counts in which at least one reference holds a word."""
    empty = counts.column("reference_words") == 0
    scored = counts.utterances[~empty]
    s, d, i, h, reference, hypothesis, characters_wrong, characters = (int(n) for n in scored.sum(axis=0))
    wip = h / reference * (h / hypothesis) if hypothesis else 0.0
    return Rates(
        wer=(s + d + i) / reference,
        cer=characters_wrong / characters,
        mer=(s + d + i) / (h + s + d + i),
        wil=1 - wip,
        wip=wip,
        bleu=_bleu(counts.words, hypothesis, reference),
        chrf=_chrf(counts.characters),
        sentence_error_rate=int(np.count_nonzero(scored[:, :3].any(axis=1))) / len(scored),
        substitutions=s,
        deletions=d,
        insertions=i,
        hits=h,
        utterances=len(counts.utterances),
        words=reference,
        empty_references=int(np.count_nonzero(empty)),
        empty_reference_insertions=int(counts.column("hypothesis_words")[empty].sum()),
    )


def oracle_errors(references: Sequence[str], candidates: Sequence[Iterable[str]]) -> int:
    """Word errors left if the best of each utterance's candidates were known; empty references do not count."""
    from rapidfuzz.distance import Levenshtein

    return sum(
        min(Levenshtein.distance(words, text.split()) for text in set(texts))
        for reference, texts in zip(references, candidates, strict=True)
        if (words := reference.split())
    )


def _texts(references: Sequence[str], hypotheses: Sequence[str], characters: bool) -> Texts:
    """Any white space becomes one space: a tab or a line break is no character that a system could miss."""
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references and {len(hypotheses)} hypotheses")
    return Texts([" ".join(t.split()) for t in references], [" ".join(t.split()) for t in hypotheses], characters)


def _bleu(words: NgramCounts, hypothesis_words: int, reference_words: int) -> float:
    """BLEU over the words as the normaliser leaves them: no tokenizer of sacrebleu's on top."""
    from sacrebleu.metrics import BLEU

    score = BLEU.compute_bleu(
        correct=words.matches.tolist(),
        total=words.hypothesis.tolist(),
        sys_len=hypothesis_words,
        ref_len=reference_words,
        smooth_method="exp",
    )
    return float(score.score)


def _chrf(characters: NgramCounts) -> float:
    """M. Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015.

    F of the mean precision and the mean recall over the orders that both sides have n-grams of. As in sacrebleu, an
    utterance's n-grams of an order that its reference is too short for do not count.
    """
    both = (characters.reference > 0) & (characters.comparable > 0)
    if not both.any():
        return 0.0
    precision = float((characters.matches[both] / characters.comparable[both]).mean())
    recall = float((characters.matches[both] / characters.reference[both]).mean())
    if precision + recall == 0:
        return 0.0
    weight = _CHRF_BETA**2
    return 100 * (1 + weight) * precision * recall / (weight * precision + recall)
