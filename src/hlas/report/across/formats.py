"""A report in the form that is asked for: a page, Markdown, JSON, a CSV of all numbers, a LaTeX table for a paper."""

import csv
import io
import json
from pathlib import Path
from typing import Literal

from hlas.errors import UserError, did_you_mean
from hlas.files import atomic_text
from hlas.manifests.rows_csv import safe_cell
from hlas.report.content import Report, tuned_note
from hlas.report.evaluate import SplitResult, SystemResult

SUFFIXES = {".html": "html", ".md": "md", ".json": "json", ".csv": "csv", ".tex": "latex"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    **{mark: "\\" + mark for mark in "&%$#_{}"},
}


def choose_format(out: Path, wanted: str) -> str:
    """The format asked for, or the one that the file's name says."""
    formats = list(SUFFIXES.values())
    if wanted:
        if wanted not in formats:
            raise UserError("--format", f"no format '{wanted}'", did_you_mean(wanted, formats))
        return wanted
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(
            "--out", f"'{out.name}' says no format", f"end it in one of {', '.join(SUFFIXES)}, or give --format"
        )
    return SUFFIXES[out.suffix.lower()]


def write_report(report: Report, out: Path, style: str, audio: Literal["embed", "link", "none"], workers: int) -> None:
    """Write the report whole or not at all."""
    text = _text(report, out, style, audio, workers)
    with atomic_text(out) as file:
        file.write(text)


def _text(report: Report, out: Path, style: str, audio: Literal["embed", "link", "none"], workers: int) -> str:
    if style == "html":
        from hlas.report.page import PageOptions, page

        return page(report, PageOptions(out.resolve().parent, audio, workers=workers))
    if style == "md":
        from hlas.report.markdown import markdown

        return markdown(report)
    if style == "json":
        from hlas.report.metrics_file import metrics_json

        return json.dumps(metrics_json(report), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    return metrics_csv(report) if style == "csv" else latex(report)


def metrics_csv(report: Report) -> str:
    """One line a system and split: every number of metrics.json that belongs to one system."""
    lines = [_csv_line(result, item) for result in report.results for item in result.systems]
    columns = list(dict.fromkeys(key for line in lines for key in line))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([safe_cell(line.get(column, "")) for column in columns] for line in lines)
    return text.getvalue()


def _csv_line(result: SplitResult, item: SystemResult) -> dict[str, object]:
    data = item.to_json(result.units)
    low, high = item.wer_ci95
    line: dict[str, object] = {"split": result.split, "system": item.name, "wer": data.pop("wer")}
    line |= {"wer_low": low, "wer_high": high}
    comparison = result.comparison(result.baseline, item.name)
    delta_low, delta_high = comparison.wer_delta_ci95 if comparison else ("", "")
    line |= {
        "baseline": result.baseline,
        "wer_delta": comparison.wer_delta if comparison else "",
        "wer_delta_low": delta_low,
        "wer_delta_high": delta_high,
        "p_value": comparison.p_value if comparison else "",
        "p_holm": comparison.p_holm if comparison else "",
        "mapsswe_p": comparison.mapsswe.p_value if comparison and comparison.mapsswe else "",
    }
    raw, doubts = data.pop("raw") or {}, data.pop("doubts")
    line |= {key: "" if value is None else value for key, value in data.items() if key not in ("wer_ci95", "raw_wer")}
    line |= {f"doubts_{name}": count for name, count in doubts.items()}
    return line | {f"raw_{key}": value for key, value in raw.items()}


def latex(report: Report) -> str:
    """A table a split, of the package booktabs: WER with its interval, the difference from the baseline, CER."""
    return "\n".join(_latex_table(report, result) for result in report.results)


def _latex_table(report: Report, result: SplitResult) -> str:
    best = result.ranked[0].score.wer
    lines = []
    for item in result.systems:
        low, high = item.wer_ci95
        wer = f"{100 * item.score.wer:.1f}"
        comparison = result.comparison(result.baseline, item.name)
        delta = f"${100 * comparison.wer_delta:+.1f}$" if comparison else "--"
        if comparison and comparison.significant:
            delta += "$^{*}$"
        cells = (
            _escaped(item.name),
            f"\\textbf{{{wer}}}" if item.score.wer == best else wer,
            f"{100 * low:.1f}--{100 * high:.1f}",
            delta,
            f"{100 * item.score.cer:.1f}",
        )
        lines.append("  " + " & ".join(cells) + r" \\")
    score = result.systems[0].score
    caption = (
        f"Word and character error rates in \\% on {_escaped(result.split)} ({score.utterances} utterances, "
        f"{score.words} words), 95\\,\\% bootstrap intervals over {result.units.kind}s, difference from "
        f"{_escaped(result.baseline or 'no baseline')} in points; $^*$ paired bootstrap, $p < 0.05$ after Holm."
    )
    if note := tuned_note(result):
        caption += f" {_escaped(note)}"
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            r"  \begin{tabular}{lrrrr}",
            r"  \toprule",
            r"  system & WER & 95\,\% interval & difference & CER \\",
            r"  \midrule",
            *lines,
            r"  \bottomrule",
            r"  \end{tabular}",
            f"  \\caption{{{caption}}}",
            r"\end{table}",
            *(f"% {' '.join(warning.split())}" for warning in (*report.warnings, *result.warnings)),
            "",
        ]
    )


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
