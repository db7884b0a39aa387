"""Scoring of plain text files, outside a recipe: one utterance a line in both."""

import csv
import io
import json
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hlas.errors import UserError, did_you_mean
from hlas.manifests.text import Language
from hlas.report.metrics import score
from hlas.report.significance import FEW_UNITS, bootstrap_wer, choose_units, interval95

_RESAMPLES, _SEED = 1000, 0


def score_files(reference: Path, hypothesis: Path, language: Language | None) -> dict[str, Any]:
    """The keys of a system in metrics.json, without those of time; 'raw' is of the lines as they stand.

    With a language both files go through its normaliser, without one only white space is evened out. An empty line
    of `hypothesis` is an utterance in which nothing was heard. 'notes' says what a reader has to know. Raises UserError
    if the files differ in length.
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
    low, high = interval95(bootstrap_wer([result.utterance_errors], [words], units, _RESAMPLES, _SEED)[:, 0])
    notes = [] if language else _unicode_notes(references, hypotheses, result.wer)
    if units.count < FEW_UNITS:
        notes.append(f"{units.count} utterances are too few: the interval is narrower than it should be")
    if result.empty_references:
        notes.append(
            f"{result.empty_references} empty references count in no rate; "
            f"{result.empty_reference_insertions} words heard in them"
        )
    more = {"wer_ci95": [low, high], "ci_unit": units.kind, "ci_units": units.count, "notes": notes}
    return result.to_json() | more


def _unicode_notes(references: list[str], hypotheses: list[str], wer: float) -> list[str]:
    """Whether letters that look the same count as errors, as one file has them composed and the other in parts."""
    composed = [[unicodedata.normalize("NFC", text) for text in texts] for texts in (references, hypotheses)]
    if composed == [references, hypotheses] or (same := score(*composed).wer) == wer:
        return []
    return [
        f"the files differ in Unicode form (NFC, NFD): words that look the same count as errors; in NFC the WER is "
        f"{100 * same:.2f} %; --language normalises both"
    ]


def score_text(result: Mapping[str, Any], style: str = "text") -> str:
    """The result for a terminal ('text'), for programs ('json', 'csv') or as a Markdown table ('md')."""
    if style not in _STYLES:
        raise UserError("--format", f"no format '{style}'", did_you_mean(style, _STYLES))
    return _STYLES[style](result)


def _text(result: Mapping[str, Any]) -> str:
    low, high = result["wer_ci95"]
    raw = "" if result["raw_wer"] is None else f"   raw WER {100 * result['raw_wer']:.2f} %"
    lines = [
        f"WER {100 * result['wer']:.2f} %  (95 % interval {100 * low:.2f} to {100 * high:.2f}, "
        f"over {result['ci_units']} utterances){raw}",
        f"CER {100 * result['cer']:.2f} %   MER {100 * result['mer']:.2f} %   WIL {100 * result['wil']:.2f} %   "
        f"WIP {100 * result['wip']:.2f} %   BLEU {result['bleu']:.2f}   chrF {result['chrf']:.2f}   "
        f"wrong sentences {100 * result['sentence_error_rate']:.2f} %",
        f"{result['words']} words in {result['utterances']} utterances: {result['hits']} right, "
        f"{result['substitutions']} substituted, {result['deletions']} deleted, {result['insertions']} inserted",
    ]
    return "\n".join([*lines, *result["notes"]])


def _json(result: Mapping[str, Any]) -> str:
    return json.dumps(result, ensure_ascii=False, indent=1, allow_nan=False)


def _flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """One number a key; those of raw text begin with 'raw_'."""
    low, high = result["wer_ci95"]
    flat = {"wer": result["wer"], "wer_low": low, "wer_high": high}
    flat |= {k: v for k, v in result.items() if k not in ("wer_ci95", "raw", "raw_wer", "notes")}
    return flat | {f"raw_{key}": value for key, value in (result["raw"] or {}).items()}


def _csv(result: Mapping[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    flat = _flat(result)
    writer.writerow(flat)
    writer.writerow(flat.values())
    return text.getvalue().rstrip("\n")


def _markdown(result: Mapping[str, Any]) -> str:
    rows = [f"| {key} | {value:.6g} |" for key, value in _flat(result).items() if isinstance(value, int | float)]
    return "\n".join(["| metric | value |", "| --- | --- |", *rows, *(f"\n{note}" for note in result["notes"])])


_STYLES: dict[str, Callable[[Mapping[str, Any]], str]] = {"text": _text, "json": _json, "csv": _csv, "md": _markdown}


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(str(path), "no such file", "check the path") from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(str(path), f"not a UTF-8 text file: {error}", "save it as UTF-8 text") from error
    # not splitlines(): it also breaks at form feeds and Unicode separators inside a line
    return text.removesuffix("\n").split("\n") if text else []
