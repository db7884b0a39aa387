"""Scoring of plain text files, outside a recipe: one utterance a line in both."""

import json
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.manifests.text import Language
from hlas.report.metrics import score
from hlas.report.significance import bootstrap_wer, choose_units, interval95

_RESAMPLES, _SEED = 1000, 0


def score_files(reference: Path, hypothesis: Path, language: Language | None) -> dict[str, Any]:
    """The keys of a system in metrics.json, without those of time; `raw_wer` is of the lines as they stand.

    With a language both files go through its normaliser, without one only white space is evened out. An empty line
    of `hypothesis` is an utterance in which nothing was heard. Raises UserError if the files differ in length.
    """
    references, hypotheses = _lines(reference), _lines(hypothesis)
    if len(references) != len(hypotheses):
        raise UserError(
            str(hypothesis),
            f"{len(hypotheses)} lines, but {reference} has {len(references)}",
            "one utterance a line in both, in the same order; leave a line empty where nothing was heard",
        )
    rule = language.normalise if language else str
    result = score([rule(t) for t in references], [rule(t) for t in hypotheses], references, hypotheses)
    words = result.utterance_words
    units = choose_units([""] * len(words), words)
    low, high = interval95(bootstrap_wer([result.utterance_errors], words, units, _RESAMPLES, _SEED)[:, 0])
    return result.to_json() | {"wer_ci95": [low, high], "ci_unit": units.kind, "ci_units": units.count}


def score_text(result: dict[str, Any], style: str = "text") -> str:
    """The result for a terminal ('text') or for a program ('json')."""
    if style == "json":
        return json.dumps(result, ensure_ascii=False, indent=1, allow_nan=False)
    if style != "text":
        raise UserError("--format", f"no format '{style}'", "one of: json, text")
    low, high = result["wer_ci95"]
    raw = "" if result["raw_wer"] is None else f"   raw WER {100 * result['raw_wer']:.2f} %"
    lines = [
        f"WER {100 * result['wer']:.2f} %  (95 % interval {100 * low:.2f} to {100 * high:.2f}, "
        f"over {result['ci_units']} utterances){raw}",
        f"CER {100 * result['cer']:.2f} %   MER {100 * result['mer']:.2f} %   WIL {100 * result['wil']:.2f} %   "
        f"BLEU {result['bleu']:.2f}   wrong sentences {100 * result['sentence_error_rate']:.2f} %",
        f"{result['words']} words in {result['utterances']} utterances: {result['hits']} right, "
        f"{result['substitutions']} substituted, {result['deletions']} deleted, {result['insertions']} inserted",
    ]
    if result["empty_references"]:
        lines.append(
            f"{result['empty_references']} empty references count in no rate; "
            f"{result['empty_reference_insertions']} words heard in them"
        )
    return "\n".join(lines)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(str(path), "no such file", "check the path") from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(str(path), f"not a UTF-8 text file: {error}", "save it as UTF-8 text") from error
    # not splitlines(): it also breaks at form feeds and Unicode separators inside a line
    return text.removesuffix("\n").split("\n") if text else []
