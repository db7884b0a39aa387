"""Stage `lm_mix`: several LMs -> one, their linear mixture with weights that make dev likeliest."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from hlas.errors import UserError
from hlas.lm import ngram
from hlas.lm.stage import check_binary
from hlas.manifests.rows import read_manifest
from hlas.stage import Stage, Summary

SMALL_WEIGHT = 0.01  # a model that counts so little only makes the mixture larger


@dataclass(frozen=True)
class Params:
    """Keys of the stage."""

    weights: tuple[float, ...] = ()  # of the LMs in their order, sum 1; none: estimated on dev by EM
    binary: Literal["trie", "probing"] = "trie"  # small, or faster and larger
    quantise_bits: int | None = None  # trie only: bits of a probability and of a back-off weight, 2 to 25; None: exact

    def __post_init__(self) -> None:
        """Check that given weights are a distribution."""
        if self.weights and (any(w < 0 for w in self.weights) or abs(sum(self.weights) - 1) > 1e-6):
            raise ValueError("weights are not negative and their sum is 1")
        check_binary(self.binary, self.quantise_bits)


def run(params: Params, stage: Stage) -> Summary:
    """Write lm.arpa, lm.bin, unigrams.txt and lm.json of the mixture."""
    from hlas.lm import arpa, mixture
    from hlas.lm.fit import measure_fit

    dev = stage.one("dev").path
    if dev.stem.startswith("test"):
        raise UserError(f"{stage.name}.dev", "names a test split, whose numbers would then mean nothing", "name dev")
    labels = [item.label for item in stage.inputs["lms"]]
    lms = [ngram.find_lm(item.path.resolve()) for item in stage.inputs["lms"]]
    arpas = _check(params, stage, labels, lms)
    kenlm = ngram.find_kenlm()

    sentences = [row.text for row in read_manifest(dev) if row.text]
    p = mixture.token_probabilities([lm.model for lm in lms], sentences)
    weighed = mixture.weigh(p, params.weights) if params.weights else mixture.estimate_weights(p)
    shared = mixture.shared_perplexities(p, weighed.weights)
    parts = []
    for i, (label, lm, weight) in enumerate(zip(labels, lms, weighed.weights, strict=True)):
        fit = measure_fit(lm.model, sentences)
        stage.log.info("%s: %s: weight %.3f; dev: %s", stage.name, label, weight, fit.shown)
        if weight < SMALL_WEIGHT:
            stage.log.warning("%s: %s has a weight of %.4f: leave it out", stage.name, label, weight)
        parts.append({"lm": label, "weight": round(weight, 6), **asdict(fit)})
        if shared:
            parts[-1]["shared_perplexity"] = shared[0][i]
    if shared:
        each = ", ".join(f"{perplexity:.1f}" for perplexity in shared[0])
        message = "%s: dev, words that all know: perplexity %s; mixed %.1f"
        stage.log.info(message, stage.name, each, shared[1])

    numbers = arpa.number_words(lm.words() for lm in lms)
    merged = mixture.merge([arpa.read_arpa(path, numbers) for path in arpas], weighed.weights, list(numbers))
    written, binary = ngram.lm_file(stage.folder, "arpa"), ngram.lm_file(stage.folder, "binary")
    arpa.write_arpa(written, merged, list(numbers))
    ngram.build_binary(kenlm, written, binary, params.binary, params.quantise_bits)
    words = ngram.read_words(written)
    ngram.write_words(ngram.lm_file(stage.folder, "unigrams"), words)
    ngram.describe(stage.folder, order=len(merged.orders), unit=lms[0].unit, tokens=lms[0].tokens)
    fit = measure_fit(binary, sentences)
    stage.log.info("%s: mixture: dev: %s", stage.name, fit.shown)
    return {
        "counts": {"models": len(lms), "types": len(words)},
        "unit": lms[0].unit,
        "weights_from": "given" if params.weights else f"EM on {dev.stem}",
        "parts": parts,
        "ngrams": [len(ngrams.keys) for ngrams in merged.orders],
        "linear_perplexity": weighed.perplexity,  # of the exact sum; that of the back-off model is dev.perplexity
        "shared_perplexity": shared[1] if shared else None,  # of the exact sum, over tokens that all models know
        "dev": fit.to_json(),
    }


def _check(params: Params, stage: Stage, labels: list[str], lms: list[ngram.LmFiles]) -> list[Path]:
    """Refuse what cannot be mixed; returns the ARPA files."""
    where = f"{stage.name}.lms"
    if len(lms) < 2:
        raise UserError(where, "one LM is no mixture", "name two or more")
    if params.weights and len(params.weights) != len(lms):
        raise UserError(f"{stage.name}.weights", f"{len(params.weights)} weights for {len(lms)} LMs", "give one each")
    arpas = []
    for label, lm in zip(labels, lms, strict=True):
        if (lm.unit, lm.tokens) != (lms[0].unit, lms[0].tokens):
            problem = f"'{label}' is of other {lm.unit}s than '{labels[0]}', which is of {lms[0].unit}s"
            raise UserError(where, problem, "mix LMs of words, or LMs of one tokenizer's tokens")
        if lm.arpa is None:
            raise UserError(f"{where}: {label}", "no lm.arpa: a binary cannot be mixed", "put the ARPA beside it")
        arpas.append(lm.arpa)
    return arpas
