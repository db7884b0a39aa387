"""Lines that `plan` and the end of `run` show."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hlas.files import read_json
from hlas.paths import shown
from hlas.plan import Planned


def duration(seconds: float) -> str:
    """'4.2 s', '3 min 05 s', '1 h 02 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def plan_lines(planned: Sequence[Planned]) -> Iterator[str]:
    """One line a stage, its warning and its missing inputs below it."""
    width = max(len(p.stage.name) for p in planned)
    for p in planned:
        if not p.selected:
            state = "made" if p.made else "not made"
            state += ", not selected"
        elif p.runs:
            state = "to run" + (" (--force)" if p.forced and p.made else "")
        else:
            state = "made"
        line = f"{p.stage.name:<{width}}  {state:<10}"
        if p.changes and p.runs:
            line += f"  changed: {', '.join(p.changes[:4])}"
        if p.language:
            line += f"  {p.language}"
        if p.last_seconds is not None:
            line += f"  (took {duration(p.last_seconds)})"
        yield line.rstrip()
        if p.warning:
            yield f"{'':<{width}}  warning: {p.warning}"
        for error in p.missing:
            yield f"{'':<{width}}  missing: {error.problem}; {error.fix}"
    left = [p for p in planned if p.runs]
    known = [p.last_seconds for p in left if p.last_seconds is not None]
    hint = f"; those run before took {duration(sum(known))}" if known else ""
    yield f"{len(left)} of {len(planned)} stages to run{hint}"


def closing_lines(home: Path, planned: Sequence[Planned]) -> Iterator[str]:
    """The systems' test WER and where the report lies; nothing where this run ended before the report."""
    metrics = home / "metrics.json"
    if not any(p.stage.kind == "report" and p.selected for p in planned) or not metrics.is_file():
        return
    systems = read_json(metrics)["systems"]
    width = max(len(name) for name in systems)
    yield ""
    for name, splits in systems.items():
        split = "test" if "test" in splits else next(iter(splits))
        m = splits[split]
        low, high = m["wer_ci95"]
        yield (
            f"{name:<{width}}  {split} WER {100 * m['wer']:5.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
            f"  CER {100 * m['cer']:5.1f} %" + (f"  RTFx {m['rtfx']:.1f}" if m.get("rtfx") else "")
        )
    yield f"report: {shown(home / 'report.html')}"
