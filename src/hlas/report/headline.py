"""The report in a few sentences: which system makes the fewest errors, by how much, and whether that is real."""

from collections.abc import Sequence

from hlas.report.evaluate import SplitResult, SystemResult
from hlas.report.significance import Comparison


def percent(value: float, digits: int = 1) -> str:
    """A fraction as '41.2 %', with a no-break space."""
    return f"{100 * value:.{digits}f}\u00a0%"


def points(value: float, digits: int = 1) -> str:
    """A difference of fractions in percentage points, always signed, with a real minus."""
    return f"{100 * value:+.{digits}f}".replace("-", "−")


def p_text(p_value: float) -> str:
    """'p = 0.031', with as many digits as it takes to tell it from 0."""
    return f"p\u00a0=\u00a0{p_value:.2f}" if p_value >= 0.095 else f"p\u00a0=\u00a0{p_value:.2g}"


def hours_text(hours: float) -> str:
    """'4 minutes', '1.7 hours', '230 hours'."""
    if hours < 1:
        return f"{60 * hours:.2g} minutes"
    return f"{hours:.2g} hours" if hours < 100 else f"{hours:,.0f} hours".replace(",", "\u202f")


def headline(result: SplitResult) -> list[str]:
    """Plain sentences, the verdict first; `result` is the test split where there is one."""
    ranked = result.ranked
    best = ranked[0]
    low, high = best.wer_ci95
    interval = f"95\u00a0% interval {100 * low:.1f}–{percent(high)}"
    if len(ranked) == 1:
        sentences = [f"{best.name} reaches a WER of {percent(best.score.wer)} on {result.split} ({interval})."]
    else:
        rival = _rival(result)
        sentences = [_verdict(result, best, rival, interval)]
        second = ranked[1]
        if second.name != rival.name:
            sentences.append(_runner_up(result, best, second))
    return sentences


def _rival(result: SplitResult) -> SystemResult:
    """What the best is measured against: the baseline, or the second best where the best is the baseline itself."""
    best, second = result.ranked[:2]
    return next((r for r in result.systems if r.name == result.baseline and r is not best), second)


def _verdict(result: SplitResult, best: SystemResult, rival: SystemResult, interval: str) -> str:
    comparison = _between(result, best, rival)
    role = "the baseline " if rival.name == result.baseline else ""
    start = f"{best.name} has the lowest word error rate on {result.split}: {percent(best.score.wer)} ({interval})"
    if best.score.wer == rival.score.wer:
        return f"{start}, the same as {role}{rival.name}."
    saved = rival.score.wer - best.score.wer
    start += (
        f", against {percent(rival.score.wer)} of {role}{rival.name}: "
        f"{100 * saved:.1f} points or {percent(saved / rival.score.wer, 0)} fewer errors"
    )
    if comparison.significant:
        return f"{start}. The difference is real as far as these clips can tell ({_chance(comparison)})."
    unsure = f"These clips do not show which is better: it may be chance ({_chance(comparison)})."
    return f"{start}. {unsure}{_more(comparison)}"


def _runner_up(result: SplitResult, best: SystemResult, second: SystemResult) -> str:
    comparison = _between(result, best, second)
    gap = second.score.wer - best.score.wer
    sure = "is real" if comparison.significant else "may be chance"
    return (
        f"Second is {second.name} with {percent(second.score.wer)}; "
        f"the gap of {100 * gap:.1f} points {sure} ({_chance(comparison)}).{_more(comparison)}"
    )


def _chance(comparison: Comparison) -> str:
    """The p that the verdict goes by."""
    corrected = ", corrected for the number of comparisons" if comparison.p_holm > comparison.p_value else ""
    return p_text(comparison.p_holm) + corrected


def _more(comparison: Comparison) -> str:
    """How much speech would settle a difference that these clips do not show."""
    needed = comparison.hours_needed
    if comparison.significant or needed is None or needed <= comparison.hours:
        return ""
    there = hours_text(comparison.hours)
    return f" To show a difference of this size takes about {hours_text(needed)} of such speech; there are {there}."


def _between(result: SplitResult, best: SystemResult, other: SystemResult) -> Comparison:
    found = result.comparison(other.name, best.name) or result.comparison(best.name, other.name)
    assert found is not None  # `evaluate` compares everything with the baseline, and the best two
    return found


def caveats(result: SplitResult) -> list[str]:
    """What limits the numbers of this split."""
    out = []
    if pretrained := [r.name for r in result.systems if r.system.pretrained]:
        verb, its = (
            ("rests on a pretrained model", "its") if len(pretrained) == 1 else ("rest on pretrained models", "their")
        )
        out.append(f"{listed(pretrained)} {verb}: {its} training data may hold these clips.")
    if result.split != "test":
        out.append(f"No system was scored on a test split; {result.split} may have served to tune them.")
    if result.units.kind == "utterance":
        out.append(f"{result.units.note}.")
    return out


def listed(names: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
