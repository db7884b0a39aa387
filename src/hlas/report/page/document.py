"""The report as one HTML file: assets/page.html filled with the sections, the style, the scripts and the data.

Nothing is loaded from anywhere: the policy in the page's head forbids it, and lets run only the one script that this
module wrote, so that no transcript can.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from hlas.report.content import TERMS, Report
from hlas.report.ladder import ladder
from hlas.report.page import analysis, made
from hlas.report.page.answer import answer
from hlas.report.page.bars import ladder_svg
from hlas.report.page.browser_data import browser_data, cuts, link_bases, links, script_json, shown_order, shown_systems
from hlas.report.page.clips import AudioMode, Clip, embedded_clips
from hlas.report.page.heat_map import heat_map
from hlas.report.page.histogram import histogram_svg
from hlas.report.page.tables import comparison_tables, metrics_tables, pairs
from hlas.report.page.utterances import utterances_html
from hlas.report.spread import wer_shares

_STYLES = ("page.css", "figures.css", "browser.css")
_SCRIPTS = ("dom.js", "grid.js", "selection.js", "player.js", "browser.js", "page.js")  # the last one starts it all
_HISTOGRAMS = 12  # systems with a histogram, the foremost


@dataclass(frozen=True, slots=True)
class PageOptions:
    """What of the audio the page holds, and how it is made."""

    folder: Path  # where the page will lie: links start there
    audio: AudioMode = "embed"  # 'link': what does not fit into the page is linked; 'none': no audio
    audio_mb: float = 20.0  # of audio inside the page at most, as it stands there (base64)
    utterances: int | None = None  # in the browser, worst first; None = all
    workers: int | None = None  # processes that encode clips; None = one a processor


def page(report: Report, options: PageOptions) -> str:
    """The whole document."""
    result = report.first
    order = shown_order(result, options.utterances)
    clips, linked = _audio(report, order, options)
    sections = [
        ("figures", "Word error rates", _ladder(report)),
        ("histograms", "How the errors are spread", _histograms(report)),
        ("groups", "Word error rate by group", analysis.groups_html(result, result.analysis)),
        ("tuning", "Tuning of the beam search", _tuning(report)),
        ("training", "Training", made.curves_html(report)),
        ("metrics", "All metrics", metrics_tables(report)),
        ("comparisons", "Comparisons", comparison_tables(report)),
        ("words", "Words", analysis.words_html(result.analysis)),
        ("utterances", "Utterances", utterances_html(report, order, clips) if order else ""),
        ("data", "Data and models", made.data_html(report)),
        ("made", "How it was made", made.made_html(report)),
        ("terms", "Terms", pairs(TERMS)),
    ]
    filled = [(key, name, body) for key, name, body in sections if body]
    style = "\n".join(map(_asset, _STYLES))
    script = '\n"use strict";\n' + "\n".join(map(_asset, _SCRIPTS))
    data = script_json(browser_data(report, order, clips, linked, link_bases(options.folder))) if order else ""
    return Template(_asset("page.html")).substitute(
        policy=_policy(style, script, local_audio=bool(linked)),
        title=escape(f"{report.title}: speech recognition report"),
        heading=f"<b>{escape(report.title)}</b> · {escape(report.subtitle)}",
        style=style,
        answer=answer(report),
        navigation=" ".join(f'<a href="#{key}">{escape(name)}</a>' for key, name, _ in filled),
        sections="\n".join(
            f'<section id="{key}" aria-labelledby="{key}-title">\n<h2 id="{key}-title">{escape(name)}</h2>\n{body}\n'
            "</section>"
            for key, name, body in filled
        ),
        footer="One file, without network: keep it, send it, print it.",
        data=_embedded(clips)
        + (f'<script type="application/json" id="utterance-data">{data}</script>' if data else ""),
        script=script,
    )


def _asset(name: str) -> str:
    return files("hlas.report.page").joinpath("assets", name).read_text(encoding="utf-8")


def _policy(style: str, script: str, local_audio: bool) -> str:
    """Content Security Policy: this style, this script, audio from this file, and nothing else."""

    def sha256(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") + "'"

    media = "data: 'self' file:" if local_audio else "data:"
    rules = (
        "default-src 'none'",
        f"script-src {sha256(script)}",
        f"style-src {sha256(style)}",
        f"media-src {media}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return "; ".join(rules)


def _audio(report: Report, order: list[int], options: PageOptions) -> tuple[dict[int, Clip], dict[int, str]]:
    """Clips inside the page and links, by place in `order`."""
    if options.audio == "none":
        return {}, {}
    audio = cuts(report.first, order)
    clips = embedded_clips(audio, round(options.audio_mb * 1e6), options.workers)
    if options.audio == "embed":
        return clips, {}
    return clips, links({place: cut for place, cut in audio.items() if place not in clips}, options.folder)


def _embedded(clips: Mapping[int, Clip]) -> str:
    """Each clip in a script element of its own that never runs: the browser reads it when it is to be played."""
    return "".join(
        f'<script type="text/plain" id="clip-{place}" data-type="{clip.media_type}">{clip.base64}</script>\n'
        for place, clip in clips.items()
    )


def _ladder(report: Report) -> str:
    result = report.first
    rungs = ladder(result)
    caption = [
        f"Word error rate on {result.split}: {result.systems[0].score.utterances} utterances, "
        f"{result.systems[0].score.words} words. Lines across the bars are 95 % intervals."
    ]
    if any(r.kind == "oracle" for r in rungs):
        caption.append("Dashed bars: what would be left if the best entry of every n-best list were known.")
    if any(r.oov_share is not None for r in rungs):
        caption.append("Red marks: share of words that the LM does not know, which its search can hardly get below.")
    drawing = ladder_svg(rungs, result.ranked[0].name, result.baseline)
    return f"<figure>{drawing}\n<figcaption>{escape(' '.join(caption))}</figcaption></figure>"


def _histograms(report: Report) -> str:
    systems = shown_systems(report.first)[:_HISTOGRAMS]
    tallest = max(float(wer_shares(item.score).max()) for item in systems)
    figures = "".join(
        f"<div><h3>{escape(item.name)}</h3>{histogram_svg(item.name, item.score, tallest)}</div>" for item in systems
    )
    caption = (
        f"Share of the {report.first.split} utterances, in %, by their own word error rate: none wrong, up to 10 % "
        "wrong, and so on; the last bar is above 100 %."
    )
    return f'<figure><div class="small">{figures}</div><figcaption>{escape(caption)}</figcaption></figure>'


def _tuning(report: Report) -> str:
    systems = {item.name: item.system for result in report.results for item in result.systems if item.system.tuning}
    cards = "".join(f"<div><h3>{escape(name)}</h3>{heat_map(system)}</div>" for name, system in systems.items())
    return f'<div class="cards">{cards}</div>' if cards else ""
