"""Stage `lm`: text -> word n-gram model (ARPA, binary, word list), with dev and test sentences kept out."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from hlas.errors import UserError
from hlas.lm import ngram
from hlas.lm.text import Counts, Source, sentences_of, write_sentences
from hlas.manifests.rows import read_manifest
from hlas.stage import Input, Stage, Summary
from hlas.stages import MANIFEST_SPLITS

HELD_OUT = ("dev", "test")


@dataclass(frozen=True)
class Params:
    """Keys of an LM spec."""

    order: int = 4  # longest n-gram, 2 to 6
    prune: tuple[int, ...] = ()  # per order from 1: n-grams seen at most so often go; the last holds for higher orders
    unit: Literal["word"] = "word"  # what an n-gram counts
    dedupe: bool = True  # count a sentence once, however many speakers read it
    discount_fallback: bool = True  # small text: fixed discounts at orders where Kneser-Ney's cannot be estimated
    binary: Literal["trie", "probing"] = "trie"  # small, or faster and larger

    def __post_init__(self) -> None:
        """Check what lmplz would refuse after the work is done."""
        if not 2 <= self.order <= ngram.MAX_ORDER:  # KenLM's models cannot be unigrams
            raise ValueError(f"order must be 2 to {ngram.MAX_ORDER}")
        if len(self.prune) > self.order or list(self.prune) != sorted(self.prune) or any(n < 0 for n in self.prune):
            raise ValueError("prune takes one count for each order, none smaller than the one before")


def run(params: Params, stage: Stage) -> Summary:
    """Write lm.arpa, lm.bin and unigrams.txt."""
    language = stage.need_language()
    held_out = _held_out(stage)
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
    if not held_out:
        stage.log.warning("%s: no dev or test sentences to keep out: name manifests in 'exclude'", stage.name)
    kenlm = ngram.find_kenlm()
    text = stage.folder / ".sentences.part"
    try:
        counts = write_sentences(
            text,
            sources,
            sentences_of(held_out, language),
            language,
            dedupe=params.dedupe,
            workers=stage.workers,
        )
        for source_counts in counts:
            stage.log.info("%s: %s", stage.name, source_counts.shown)
        if not any(c.kept for c in counts):
            raise UserError(f"{stage.name}.text", "no sentence is left", "; ".join(c.shown for c in counts))
        arpa, binary = ngram.lm_file(stage.folder, "arpa"), ngram.lm_file(stage.folder, "binary")
        counted = ngram.count_ngrams(
            kenlm,
            text,
            arpa,
            order=params.order,
            prune=params.prune,
            discount_fallback=params.discount_fallback,
        )
    finally:
        text.unlink(missing_ok=True)
    ngram.build_binary(kenlm, arpa, binary, params.binary)
    words = ngram.read_words(arpa)
    ngram.write_words(ngram.lm_file(stage.folder, "unigrams"), words)
    if counted.fallback_orders:
        orders = ", ".join(map(str, counted.fallback_orders))
        stage.log.info("%s: too little text to estimate the discounts of order %s: fixed ones used", stage.name, orders)
    summary = _summary(counts, len(words)) | {
        "held_out": [path.stem for path in held_out],
        "ngrams": list(counted.ngrams),
        "fallback_orders": list(counted.fallback_orders),
    }
    if dev := next((path for path in held_out if path.stem == "dev"), None):
        fit = ngram.measure_fit(binary, (row.text for row in read_manifest(dev)))
        summary["dev"] = asdict(fit) | {"oov_rate": round(fit.oov_words / fit.words, 5) if fit.words else None}
        stage.log.info("%s: dev: %s", stage.name, fit.shown)
    return summary


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


def _summary(counts: list[Counts], types: int) -> Summary:
    rejected: Counter[str] = sum((c.rejected for c in counts), Counter())
    return {
        "counts": {
            "read": sum(c.read for c in counts),
            "sentences": sum(c.kept for c in counts),
            "words": sum(c.words for c in counts),
            "types": types,
            "in_dev_or_test": sum(c.removed for c in counts),
            "duplicates": sum(c.duplicates for c in counts),
            "rejected": sum(rejected.values()),
        },
        "rejected": dict(sorted(rejected.items())),
        "sources": [c.to_json() for c in counts],
    }
