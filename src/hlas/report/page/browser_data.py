"""What the utterance browser (assets/*.js) is fed: one JSON object of columns, in which an index names an utterance.

Columns and not records, 0 for a text that equals its reference, and edit scripts instead of marked-up words keep ten
thousand utterances of four systems at a few megabytes.
"""

import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from hlas.manifests.rows import Hypothesis, Row
from hlas.report.content import Report
from hlas.report.diffs import edit_script
from hlas.report.evaluate import SplitResult, SystemResult
from hlas.report.page.clips import Clip, Cut

_MOST_TEXTS = 200_000  # systems x utterances in the browser: beyond, the page would take too long to open

# A page in the store is read there, and through the links RUNS/<recipe>/report.html and RUNS/<recipe>/report/: a
# relative address starts from where the reader opened it, so each is tried. '-' stands for the page's own folder.
_STORE_BASES = ("", "../store/-/", "../../store/-/")


def shown_order(result: SplitResult, limit: int | None) -> list[int]:
    """Utterances of the browser: most errors of the best system first, then of all; those without reference last."""
    best = result.ranked[0].score
    total = np.sum([item.score.utterance_errors for item in result.systems], axis=0)
    order = np.lexsort((-total, -best.utterance_errors, best.utterance_words == 0))  # stable; the last key weighs most
    most = _MOST_TEXTS // len(result.systems)
    return [int(i) for i in order[: most if limit is None else min(limit, most)]]


def shown_systems(result: SplitResult) -> list[SystemResult]:
    """The best, what it is measured against, then the others, fewest errors first."""
    best, *others = result.ranked
    return [best, *sorted(others, key=lambda item: item.name != result.baseline)]


def cuts(result: SplitResult, order: Sequence[int]) -> dict[int, Cut]:
    """Where the audio of each shown utterance is, by its place in `order`."""
    rows = {place: result.rows[index] for place, index in enumerate(order)}
    return {
        place: Cut(result.audio_folder / row.audio_filepath, row.offset, row.duration) for place, row in rows.items()
    }


def links(audio: Mapping[int, Cut], folder: Path) -> dict[int, str]:
    """Addresses of the audio files relative to the page's folder, percent-encoded, with the cut as a fragment."""
    start = folder.resolve()
    out = {}
    for place, cut in audio.items():
        path = quote(Path(os.path.relpath(cut.path.resolve(), start)).as_posix())
        part = "" if cut.offset_s is None else f"#t={cut.offset_s:g},{cut.offset_s + cut.duration_s:g}"
        out[place] = path + part
    return out


def link_bases(folder: Path) -> tuple[str, ...]:
    """What the `links` of a page in that folder may have to start with."""
    return _STORE_BASES if folder.resolve().parent.name == "store" else ("",)


def browser_data(
    report: Report,
    order: Sequence[int],
    clips: Mapping[int, Clip],
    linked: Mapping[int, str],
    bases: Sequence[str] = ("",),
) -> dict[str, Any]:
    """The columns; `clips` and `linked` go by place in `order`, `bases` are `link_bases`."""
    result = report.first
    systems = shown_systems(result)
    rows = [result.rows[i] for i in order]
    texts = [[_text(item.hypotheses[i]) for i in order] for item in systems]
    references = [" ".join(row.text.split()) for row in rows]
    return {
        "language": report.language.code if report.language else "",
        "systems": [item.name for item in systems],
        "rival": min(1, len(systems) - 1),
        "name": _names(rows),
        "reference": references,
        "words": [len(text.split()) for text in references],
        "seconds": [round(row.duration, 2) for row in rows],
        "right_to_left": [int(right_to_left(text)) for text in references],
        "heard": [[0 if h == r else h for h, r in zip(column, references, strict=True)] for column in texts],
        "edits": [
            [0 if h == r else edit_script(r, h) for h, r in zip(column, references, strict=True)] for column in texts
        ],
        "errors": [item.score.utterance_errors[list(order)].tolist() for item in systems],
        "facts": [_fact(name, [getattr(row, field) for row in rows]) for field, name in _FACTS],
        "groups": _groups(report, order),
        "audio": [1 if place in clips else linked.get(place, 0) for place in range(len(order))],
        "audio_bases": bases,
    }


_FACTS = (("speaker", "speaker"), ("gender", "gender"), ("age", "age"), ("accents", "accent"))


def _text(hypothesis: Hypothesis) -> str:
    return " ".join(hypothesis.pred_text.split())


def _names(rows: Sequence[Row]) -> list[str]:
    """Utterance names, or audio paths where the names alone repeat: a link names one utterance."""
    names = [row.utterance for row in rows]
    return names if len(set(names)) == len(names) else [row.audio_filepath for row in rows]


def _fact(title: str, values: Sequence[str]) -> dict[str, Any]:
    """Each distinct value once and, for each utterance, which it has; -1 where it is not known."""
    distinct = sorted(set(values) - {""})
    index = {value: i for i, value in enumerate(distinct)}
    return {"title": title, "values": distinct, "of": [index.get(value, -1) for value in values]}


def _groups(report: Report, order: Sequence[int]) -> list[dict[str, Any]]:
    """Each breakdown's groups, and for each utterance the one that it is in; -1 for none."""
    places = np.full(len(report.first.rows), -1)
    places[list(order)] = range(len(order))
    out = []
    for breakdown in report.first.analysis.breakdowns:
        of = np.full(len(order), -1)
        for number, group in enumerate(breakdown.groups):
            inside = places[group.members]
            of[inside[inside >= 0]] = number
        out.append({"title": breakdown.title, "labels": [g.label for g in breakdown.groups], "of": of.tolist()})
    return out


def right_to_left(text: str) -> bool:
    """Whether the first letter with a direction runs right to left, as a browser decides it."""
    directions = (unicodedata.bidirectional(character) for character in text)
    return next((d for d in directions if d in ("L", "R", "AL")), "L") != "L"


def script_json(data: Any) -> str:
    """Compact JSON that can stand inside a script element: nothing in it ends the element or a line of the script."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
