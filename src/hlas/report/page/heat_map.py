"""The alpha x beta heat map of a tuned search, as a table whose cells are coloured: its numbers can be read out."""

from collections.abc import Sequence
from html import escape

from hlas.report.headline import percent
from hlas.report.systems import System, TuningPoint

_STEPS = 9  # strengths of the colour, h1 … h9 in the style sheet


def heat_map(system: System) -> str:
    """WER by LM weight (rows) and word bonus (columns), a table for each beam width that was tried."""
    points, chosen, split = system.tuning, system.chosen, system.tuned_on or "the tuning split"
    widths = list(dict.fromkeys(p.width for p in points))
    tables = "".join(_table([p for p in points if p.width == width], width, system) for width in widths)
    caption = [
        f"WER in % on {split} by LM weight (alpha, rows) and word bonus (beta, columns); the stronger the colour, the "
        "fewer errors; empty: not tried."
    ]
    if not all(p.redecoded for p in points):
        caption.append("≈: estimated between the decodes of a narrower search, not decoded itself.")
    if chosen:
        caption.append(f"Chosen (framed): alpha {chosen.alpha:g}, beta {chosen.beta:g}, {percent(chosen.wer)}.")
    return f"<figure>{tables}<figcaption>{escape(' '.join(caption))}</figcaption></figure>"


def _table(points: Sequence[TuningPoint], width: int | None, system: System) -> str:
    betas = sorted({p.beta for p in points})
    # of a pair that was estimated and then decoded, the decoded one counts
    places = {(p.alpha, p.beta): p for p in sorted(points, key=lambda p: p.redecoded)}
    rows = []
    for alpha in sorted({p.alpha for p in points}):
        cells = "".join(_cell(places.get((alpha, beta)), system) for beta in betas)
        rows.append(f'<tr><th scope="row">{alpha:g}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{beta:g}</th>' for beta in betas)
    caption = "" if width is None else f"<caption>beam width {width}</caption>"
    return (
        f'<div class="scroll" tabindex="0"><table class="heat">{caption}<thead><tr><th scope="col">alpha \\ beta</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(point: TuningPoint | None, system: System) -> str:
    if point is None:
        return "<td></td>"
    low, high = min(p.wer for p in system.tuning), max(p.wer for p in system.tuning)
    strength = round(_STEPS * (high - point.wer) / (high - low)) if high > low else 0
    styles = [f"h{strength}"] if strength else []
    chosen = system.chosen
    if chosen and (chosen.alpha, chosen.beta, chosen.width) == (point.alpha, point.beta, point.width):
        styles.append("chosen")
    style = f' class="{" ".join(styles)}"' if styles else ""
    about = "" if point.redecoded else "≈ "
    return f'<td{style} title="CER {percent(point.cer)}">{about}{100 * point.wer:.1f}</td>'
