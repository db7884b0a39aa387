#!/usr/bin/env python3
"""Makes the README's "choose a model" table out of finished runs: nothing in it is typed by hand.

    .venv/bin/python tools/choose_model.py add RUNS/hsb_whisper_ctc …   # measured numbers -> docs/results/models.json
    .venv/bin/python tools/choose_model.py write                       # docs/results/models.json -> README.md

`add` takes each acoustic model whose hypotheses the run's metrics.json holds: without an LM (greedy, or a beam search)
and with one, each time the system that is best on dev. A test says that README.md is what `write` writes.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.files import atomic_text, read_json, write_json
from hlas.paths import project_root
from hlas.store import RECORD, Record, ancestors

RESULTS = project_root() / "docs" / "results" / "models.json"
README = project_root() / "README.md"
BEGIN, END = "<!-- measured models: tools/choose_model.py write -->", "<!-- end of measured models -->"
TRAINED = ("train", "finetune")


def measured(run: Path) -> Iterator[dict[str, Any]]:
    """One entry for each acoustic model of a recipe's finished run, as docs/results/models.json keeps it."""
    metrics = read_json(run / "metrics.json")
    by_model: dict[str, dict[str, Any]] = {}
    for system, splits in metrics["systems"].items():
        if not (run / system / RECORD).is_file():
            continue
        found = list(ancestors(run / system))
        acoustic = [[source for source in found if source[1].kind in kinds] for kinds in (TRAINED, ("transcribe",))]
        if not any(acoustic) or "test" not in splits:
            continue
        folder, record = (acoustic[0] or acoustic[1])[0]  # the last training; none: a Whisper as it is
        entry = by_model.setdefault(folder.name, _described(folder.name, record, metrics))
        kind = "lm" if any(record.kind in ("lm", "lm_mix") for _, record in found) else "plain"
        scores = {split: _score(score) for split, score in splits.items() if split in ("dev", "test")}
        before = entry.get(kind)
        if before is None or _dev(scores) < _dev(before):
            entry[kind] = {"system": system, **scores}
    yield from by_model.values()


def _described(folder: str, record: Record, metrics: Mapping[str, Any]) -> dict[str, Any]:
    summary, machine = record.summary, record.environment["machine"]
    return {
        "made": folder if record.kind in TRAINED else str(summary.get("model")),  # one training, one Whisper as it is
        "recipe": metrics["recipe"],
        "stage": record.name,
        "model": str(record.params.get("name") or summary.get("model") or record.name),
        "kind": record.kind,
        "parameters": summary.get("parameters"),
        "trainable": summary.get("trainable"),
        "speech_h": round(summary["train_hours"], 2) if "train_hours" in summary else None,
        "train_s": round(record.seconds) if record.kind in TRAINED else None,
        "hardware": machine["gpu"] or f"{machine['cores']} cores, {machine['processor']}",
        "commit": record.environment["commit"],
        "date": record.finished[:10],
    }


def once(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of entries that are of one model, which several recipes may share, the one that is best on dev."""
    best: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        before = best.setdefault(entry["made"], entry)
        if _best(entry) < _best(before):
            best[entry["made"]] = entry
    return list(best.values())


def _best(entry: Mapping[str, Any]) -> float:
    return min(_dev(entry.get(kind, {})) for kind in ("plain", "lm"))


def _score(score: Mapping[str, Any]) -> dict[str, Any]:
    low, high = score["wer_ci95"]
    return {
        key: round(value, 6)
        for key, value in (("wer", score["wer"]), ("low", low), ("high", high), ("cer", score["cer"]))
    }


def _dev(scores: Mapping[str, Any]) -> float:
    """What a choice may look at; a system without dev hypotheses comes last."""
    return float(scores["dev"]["wer"]) if "dev" in scores else float("inf")


def table(entries: Sequence[Mapping[str, Any]]) -> str:
    """The entries as Markdown, the best on dev first."""
    lines = [
        "| acoustic model | recipe | trained parameters | training | WER % on test without an LM | with a word LM |",
        "|---|---|---|---|---|---|",
    ]
    for e in sorted(entries, key=_best):
        trained = f"{e['trainable'] / 1e6:.1f} M of {e['parameters'] / 1e6:.1f} M" if e["trainable"] else "none"
        lines.append(
            f"| {e['model']} ({e['stage']}) | `{e['recipe']}` | {trained} | {_duration(e['train_s'])} "
            f"| {_shown(e.get('plain'))} | {_shown(e.get('lm'))} |"
        )
    hardware, dates, commits = (sorted({e[key] for e in entries}) for key in ("hardware", "date", "commit"))
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    lines += [
        "",
        "95 % intervals in brackets, then the system's name in the recipe. "
        f"{'; '.join(hardware)}; {when}; training at {', '.join(commits)}.",
    ]
    return "\n".join(lines)


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / 60:.0f} min"


def _shown(scores: Mapping[str, Any] | None) -> str:
    if not scores:
        return ""
    test = scores["test"]
    return f"{100 * test['wer']:.1f} ({100 * test['low']:.1f}–{100 * test['high']:.1f}), {scores['system']}"


def with_table(readme: str, made: str) -> str:
    """The README with the table between its markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(str(README), f"lacks the lines {BEGIN} and {END}", "put them where the table belongs")
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def main(arguments: Sequence[str]) -> None:
    """`add RUN…` or `write`."""
    known: list[dict[str, Any]] = read_json(RESULTS) if RESULTS.is_file() else []
    if arguments[:1] == ["add"] and len(arguments) > 1:
        for run in arguments[1:]:
            fresh = list(measured(Path(run)))
            names = {(e["recipe"], e["stage"]) for e in fresh}
            known = [e for e in known if (e["recipe"], e["stage"]) not in names] + fresh
        write_json(RESULTS, once(known))
    elif list(arguments) == ["write"]:
        with atomic_text(README) as file:
            file.write(with_table(README.read_text(encoding="utf-8"), table(known)))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
