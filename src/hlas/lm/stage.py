"""Stage `lm`: text -> n-gram model of words or tokens (ARPA, binary, word list), without sentences of dev and test."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hlas.errors import UserError
from hlas.lm import ngram
from hlas.lm.text import Counts, Source, sentences_of, write_sentences
from hlas.manifests.rows import read_manifest
from hlas.stage import Input, Stage, Summary
from hlas.stages import MANIFEST_SPLITS

if TYPE_CHECKING:
    from hlas.tokenizers.stage import Labels

HELD_OUT = ("dev", "test")


@dataclass(frozen=True)
class Params:
    """Keys of an LM spec."""

    order: int = 4  # longest n-gram, 2 to 6
    prune: tuple[int, ...] = ()  # per order from 1: n-grams seen at most so often go; the last holds for higher orders
    unit: Literal["word", "token"] = "word"  # what an n-gram counts; tokens are those of the input 'tokenizer'
    vocabulary_limit: int | None = None  # only so many words, the most frequent; None: all
    dedupe: bool = True  # count a sentence once, however many speakers read it
    discount_fallback: bool = True  # small text: fixed discounts at orders where Kneser-Ney's cannot be estimated
    binary: Literal["trie", "probing"] = "trie"  # small, or faster and larger
    quantise_bits: int | None = None  # trie only: bits of a probability and of a back-off weight, 2 to 25; None: exact

    def __post_init__(self) -> None:
        """Check what KenLM would refuse after the work is done."""
        if not 2 <= self.order <= ngram.MAX_ORDER:  # KenLM's models cannot be unigrams
            raise ValueError(f"order must be 2 to {ngram.MAX_ORDER}")
        if len(self.prune) > self.order or list(self.prune) != sorted(self.prune) or any(n < 0 for n in self.prune):
            raise ValueError("prune takes one count for each order, none smaller than the one before")
        if self.vocabulary_limit is not None and (self.vocabulary_limit < 1 or self.unit == "token"):
            raise ValueError("vocabulary_limit is at least 1 and for words only: tokens are few as they are")
        check_binary(self.binary, self.quantise_bits)


def check_binary(structure: str, quantise_bits: int | None) -> None:
    """Raise ValueError for what build_binary cannot do."""
    if quantise_bits is None:
        return
    if structure != "trie" or quantise_bits not in ngram.QUANTISE_BITS:
        first, last = ngram.QUANTISE_BITS[0], ngram.QUANTISE_BITS[-1]
        raise ValueError(f"quantise_bits is {first} to {last}, and for 'binary: trie' only")


def run(params: Params, stage: Stage) -> Summary:
    """Write lm.arpa, lm.bin, unigrams.txt and lm.json."""
    labels = _labels(params, stage)
    held_out = _held_out(stage)
    sources = _sources(stage, held_out)
    if not held_out:
        stage.log.warning("%s: no dev or test sentences to keep out: name manifests in 'exclude'", stage.name)
    kenlm = ngram.find_kenlm()
    arpa, binary = ngram.lm_file(stage.folder, "arpa"), ngram.lm_file(stage.folder, "binary")
    with tempfile.TemporaryDirectory(prefix=".lm.", dir=stage.folder) as name:
        scratch = Path(name)
        text, summary = _write_text(params, stage, sources, held_out, labels, scratch)
        counted = ngram.count_ngrams(
            kenlm,
            text,
            arpa,
            order=params.order,
            prune=params.prune,
            discount_fallback=params.discount_fallback,
            only_words=_only_words(params, stage, text, scratch),
        )
    ngram.build_binary(kenlm, arpa, binary, params.binary, params.quantise_bits)
    words = ngram.read_words(arpa)
    ngram.write_words(ngram.lm_file(stage.folder, "unigrams"), words)
    ngram.describe(stage.folder, order=params.order, unit=params.unit, tokens=labels.tokens if labels else ())
    if counted.fallback_orders:
        orders = ", ".join(map(str, counted.fallback_orders))
        stage.log.info("%s: too little text to estimate the discounts of order %s: fixed ones used", stage.name, orders)
    summary["counts"]["types"] = len(words)
    summary |= {
        "unit": params.unit,
        "held_out": [path.stem for path in held_out],
        "ngrams": list(counted.ngrams),
        "fallback_orders": list(counted.fallback_orders),
        "binary_bytes": binary.stat().st_size,
    }
    if dev := next((path for path in held_out if path.stem == "dev"), None):
        summary["dev"] = _measure(stage, binary, dev, labels)
    return summary


def _labels(params: Params, stage: Stage) -> "Labels | None":
    """The labels of a token LM; None for words."""
    tokenizer = stage.optional("tokenizer")
    if params.unit == "word":
        if tokenizer is not None:
            raise UserError(f"{stage.name}.tokenizer", "an LM of words has no use for it", "write 'unit: token'")
        return None
    if tokenizer is None:
        fix = "add 'tokenizer: tokenizer', the one of the model that the LM is for"
        raise UserError(f"{stage.name}.unit: token", "no tokenizer says what the tokens are", fix)
    from hlas.lm.token_text import labels_of

    return labels_of(tokenizer.path)


def _sources(stage: Stage, held_out: Sequence[Path]) -> list[Source]:
    sources = [
        Source(item.path, item.label if item.stage else item.path.name, normalised=_is_manifest_edge(item))
        for item in stage.inputs["text"]
    ]
    for source in sources:
        if source.path.resolve() in {path.resolve() for path in held_out}:
            raise UserError(
                f"{stage.name}.text: {source.label}",
                "is LM text and kept out of it at once",
                "leave it out of 'text', or name what is to be kept out in 'exclude'",
            )
    return sources


def _write_text(
    params: Params,
    stage: Stage,
    sources: Sequence[Source],
    held_out: Sequence[Path],
    labels: "Labels | None",
    scratch: Path,
) -> tuple[Path, Summary]:
    """The text to count, in words or tokens, and what became of the sentences."""
    language = stage.need_language()
    text = scratch / "sentences"
    excluded = sentences_of(held_out, language)
    counts = write_sentences(text, sources, excluded, language, dedupe=params.dedupe, workers=stage.workers)
    for source_counts in counts:
        stage.log.info("%s: %s", stage.name, source_counts.shown)
    if not any(c.kept for c in counts):
        raise UserError(f"{stage.name}.text", "no sentence is left", "; ".join(c.shown for c in counts))
    summary = _summary(counts)
    return (text if labels is None else _tokens(stage, text, labels, summary)), summary


def _tokens(stage: Stage, text: Path, labels: "Labels", summary: Summary) -> Path:
    """The sentences as tokens; those that have none are counted as rejected."""
    from hlas.lm.token_text import encode_file

    encoded = text.with_name("tokens")
    if dropped := encode_file(text, encoded, labels, stage.workers):
        stage.log.info("%s: %d sentences hold a character without a token", stage.name, dropped)
        summary["rejected"]["no_token"] = dropped
        summary["counts"]["rejected"] += dropped
        summary["counts"]["sentences"] -= dropped
        if not summary["counts"]["sentences"]:
            raise UserError(
                f"{stage.name}.tokenizer", "no sentence can be written in its tokens", "is it of this text?"
            )
    return encoded


def _only_words(params: Params, stage: Stage, text: Path, scratch: Path) -> Path | None:
    """File of the words that a limited vocabulary keeps; None where all are kept."""
    if params.vocabulary_limit is None:
        return None
    from hlas.lm.vocabulary import most_frequent

    words, types = most_frequent(text, params.vocabulary_limit, scratch)
    stage.log.info("%s: the %d most frequent of %d words", stage.name, len(words), types)
    ngram.write_words(scratch / "only_words", words)
    return scratch / "only_words"


def _measure(stage: Stage, binary: Path, dev: Path, labels: "Labels | None") -> Summary:
    """Perplexity and unknown words on dev, for the summary and the log."""
    from hlas.lm.fit import measure_fit

    texts: Iterable[str] = (row.text for row in read_manifest(dev) if row.text)
    if labels is not None:
        from hlas.lm.token_text import encode_sentences

        texts = encode_sentences(texts, labels)
    fit = measure_fit(binary, texts)
    stage.log.info("%s: dev: %s", stage.name, fit.shown)
    return fit.to_json()


def _held_out(stage: Stage) -> list[Path]:
    """Manifests whose sentences are kept out: those of 'exclude', else dev and test beside each manifest edge."""
    if given := stage.inputs.get("exclude"):
        return [item.path for item in given]
    found = [path for item in stage.inputs["text"] if _is_manifest_edge(item) for path in _siblings(item.path)]
    return list(dict.fromkeys(found))


def _is_manifest_edge(item: Input) -> bool:
    return bool(item.stage) and item.output in MANIFEST_SPLITS


def _siblings(manifest: Path) -> list[Path]:
    paths = [manifest.with_name(MANIFEST_SPLITS[split]) for split in HELD_OUT]
    return [path for path in paths if path.is_file()]


def _summary(counts: list[Counts]) -> Summary:
    rejected: Counter[str] = sum((c.rejected for c in counts), Counter())
    return {
        "counts": {
            "read": sum(c.read for c in counts),
            "sentences": sum(c.kept for c in counts),
            "words": sum(c.words for c in counts),
            "types": 0,  # known when the model is made
            "in_dev_or_test": sum(c.removed for c in counts),
            "duplicates": sum(c.duplicates for c in counts),
            "rejected": sum(rejected.values()),
        },
        "rejected": dict(sorted(rejected.items())),
        "sources": [c.to_json() for c in counts],
    }
