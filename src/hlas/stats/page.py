"""stats.html: one self-contained page of tables and plots; every text of the corpus is escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from hlas.manifests.audit import SharedText, facts_table
from hlas.stats.measure import Group, SplitStats
from hlas.stats.plots import growth_svg, histogram_svg

_TEMPLATE = Path(__file__).with_name("page.html")
_SHOWN_LETTERS = 120
_SHORT = 14  # characters of a speaker's name
_TITLES = {
    "gender": "Gender",
    "age": "Age",
    "accents": "Accents",
    "variant": "Variant",
    "domain": "Domain of the sentence",
    "up_votes": "Votes for the clip",
    "down_votes": "Votes against the clip",
}


def page(
    title: str, splits: Sequence[SplitStats], audits: Sequence[Mapping[str, Any]], shared: Sequence[SharedText] = ()
) -> str:
    """The whole page; `audits`: the audit.json of the folders, whose warnings come first."""
    content = [_warnings(audits), _overview(splits), _audit(audits), _texts(shared), *(_split(s) for s in splits)]
    template = Template(_TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), content="\n".join(content))


def _warnings(audits: Sequence[Mapping[str, Any]]) -> str:
    lines = [str(line) for audit in audits for line in audit.get("warnings", ())]
    items = "".join(f'<p class="note warn">{escape(line)}</p>' for line in lines)
    return f"<section aria-label='Warnings'><h2>What the audit warns of</h2>{items}</section>" if lines else ""


def _audit(audits: Sequence[Mapping[str, Any]]) -> str:
    rows = [(subject, (finding,)) for audit in audits for subject, finding in facts_table(audit)]
    return (
        f"<section><h2>Audit</h2>{_table('What the audit found', ('', 'finding'), rows, 'text')}</section>"
        if rows
        else ""
    )


def _texts(shared: Sequence[SharedText]) -> str:
    rows = [(f"{s.text}, {s.split}", (str(s.shared), "; ".join(s.examples))) for s in shared]
    table = _table("Sentences in text files", ("", "sentences in it", "such as"), rows, "text")
    return f"<section><h2>Sentences that stand in text files</h2>{table}</section>" if rows else ""


def _overview(splits: Sequence[SplitStats]) -> str:
    head = (
        *("", "utterances", "hours", "speakers", "largest speaker", "words", "different words", "once"),
        *("different sentences", "words not in train"),
    )
    rows = []
    for s in splits:
        unseen = "" if s.unseen_words is None else f"{100 * s.unseen_words:.1f} %"
        cells = (
            *(str(s.utterances), f"{s.hours:.2f}", str(s.speakers), f"{100 * s.largest_speaker:.0f} %"),
            *(str(s.words), str(s.types), str(s.once), str(s.sentences), unseen),
        )
        rows.append((s.split, cells))
    note = (
        "Speakers: those that are named. “Words not in train” is a floor under the error rate of an LM made of train."
    )
    return f"<section><h2>Overview</h2>{_table('All manifests', head, rows)}<p class='note'>{note}</p></section>"


def _split(s: SplitStats) -> str:
    plots = [
        ("Duration", "s", s.duration_s),
        ("Words in an utterance", "words", s.words_per_utterance),
        ("Rate of speech", "characters/s", s.chars_per_s),
    ]
    if s.snr_db:
        plots.append(("Speech over noise (estimate)", "dB", s.snr_db))
    figures = [f"<figure><h3>{name}</h3>{histogram_svg(name, unit, spread)}</figure>" for name, unit, spread in plots]
    if s.growth:
        figures.append(f"<figure><h3>Growth of the vocabulary</h3>{growth_svg(s.growth)}</figure>")
    tables = [_speakers(s)] if s.speakers_by_hours else []
    tables += [_groups(_TITLES[name], groups) for name, groups in s.groups.items()]
    letters = "".join(f"<span>{escape(c)} {n}</span> " for c, n in s.characters[:_SHOWN_LETTERS])
    more = len(s.characters) - _SHOWN_LETTERS
    rest = f"<p class='note'>and {more} rarer ones, see stats.json</p>" if more > 0 else ""
    return (
        f"<section><h2>{escape(s.split)}</h2><div class='grid'>{''.join(figures)}</div>"
        f"<div class='grid'>{''.join(tables)}</div><h3>Characters ({len(s.characters)})</h3>"
        f"<p class='letters'>{letters}</p>{rest}</section>"
    )


def _speakers(s: SplitStats) -> str:
    title = "Speakers with most hours"
    rows = [
        (_short(g.value), (str(g.utterances), f"{g.hours:.2f}", f"{100 * g.hours / max(s.hours, 1e-9):.1f} %"))
        for g in s.speakers_by_hours
    ]
    return f"<div><h3>{title}</h3>{_table(title, ('', 'utterances', 'hours', 'share'), rows)}</div>"


def _short(name: str) -> str:
    """A name that fits a cell: Common Voice's speakers are hashes of 128 digits."""
    return name if len(name) <= _SHORT else name[:_SHORT] + "…"


def _groups(title: str, groups: Sequence[Group]) -> str:
    rows = [
        (g.value or "unknown", (str(g.utterances), f"{g.hours:.2f}", str(g.speakers) if g.speakers else ""))
        for g in groups
    ]
    return f"<div><h3>{title}</h3>{_table(title, ('', 'utterances', 'hours', 'speakers'), rows)}</div>"


def _table(name: str, head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], style: str = "n") -> str:
    """`style`: the class of the cells beside the first; 'n' = numbers."""
    heads = "".join(f"<th scope='col'{f' class={style}' if cell else ''}>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr><th scope='row' dir='auto'>{escape(label)}</th>"
        + "".join(f"<td class='{style}' dir='auto'>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for label, cells in rows
    )
    return (
        f"<div class='scroll'><table aria-label='{escape(name, quote=True)}'><thead><tr>{heads}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
