"""The report page in a real headless Chromium: its numbers, its looks, who can read it, and that it runs no text."""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from hlas.manifests.rows import Hypothesis
from hlas.report.content import Report
from hlas.report.metrics_file import metrics_json
from hlas.report.page.browser_data import script_json
from hlas.report.systems import TuningPoint
from page_kit import Open, corpus, heard, made_report, row, write

HOSTILE = '<script>window.ran = 1</script><img src=x onerror="window.ran=2">'

pytest_plugins = ("page_kit",)


def total(tab: Page) -> int:
    found = re.search(r"(\d+) utterances", tab.locator("#status").text_content() or "")
    assert found, tab.locator("#status").text_content() or ""
    return int(found[1])


def errors_of(report: Report, system: str) -> list[int]:
    item = next(item for item in report.first.systems if item.name == system)
    return [int(n) for n in item.score.utterance_errors]


def test_the_numbers_are_those_of_metrics_json(sample_report: Report, sample_page: Path, open_page: Open) -> None:
    tab = open_page(sample_page)
    metrics = json.loads(json.dumps(metrics_json(sample_report)))
    head = tab.locator("table.metrics thead th").all_text_contents()
    lines = tab.locator("table.metrics tbody tr")
    assert lines.count() == len(metrics["systems"]) == 3
    for line in lines.all():
        cells = dict(zip(head, line.locator("th, td").all_text_contents(), strict=True))
        own = metrics["systems"][cells["system"].removesuffix(" (baseline)")]["test"]
        low, high = own["wer_ci95"]
        assert cells["WER %"] == f"{100 * own['wer']:.1f}"
        assert cells["95 % interval"] == f"{100 * low:.1f}–{100 * high:.1f}"
        assert cells["CER %"] == f"{100 * own['cer']:.1f}"
        assert [int(cells[k]) for k in ("sub.", "del.", "ins.")] == [
            own[k] for k in ("substitutions", "deletions", "insertions")
        ]
    for line in tab.locator("table.league tbody tr").all():
        name = (line.locator("th").text_content() or "").removesuffix(" baseline")
        wer = metrics["systems"][name]["test"]["wer"]
        assert line.locator("td.wer").text_content() == f"{100 * wer:.1f}\u00a0%"
    comparisons = {f"{c['b']} against {c['a']}": c for c in metrics["comparisons"]}
    for line in tab.locator("#comparisons tbody tr").all():
        cells = line.locator("th, td").all_text_contents()
        comparison = comparisons.pop(cells[0])
        assert cells[1] == f"{100 * comparison['wer_delta']:+.1f}".replace("-", "−")
        assert (cells[7] == "yes") == (comparison["p_holm"] < 0.05)
    assert comparisons == {}


def test_the_first_screen_says_which_system_and_whether_it_is_real(sample_page: Path, open_page: Open) -> None:
    for width, height in ((1280, 800), (390, 844)):
        tab = open_page(sample_page, viewport={"width": width, "height": height})
        verdict = tab.locator("#verdict")
        assert verdict.text_content() == "Use beam_lm: it makes the fewest word errors, and its lead is real"
        box = tab.locator("table.league tbody").bounding_box()
        assert box and box["y"] + box["height"] < height


def test_a_lead_that_may_be_chance_is_not_called_real(tmp_path: Path, open_page: Open) -> None:
    rows = corpus(tmp_path)
    systems = {"a": heard(rows, 0.2, 1), "b": heard(rows, 0.2, 2)}
    tab = open_page(write(made_report(tmp_path, systems), tmp_path, audio="none"))
    assert "cannot tell which is better" in (tab.locator("#verdict").text_content() or "")
    assert tab.locator("table.league .verdict").all_text_contents() == ["cannot tell"]


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it, of an 'rgb(r, g, b)'."""
    channels = np.array([int(n) for n in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(a: str, b: str) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_themes_are_legible(sample_page: Path, open_page: Open, theme: str) -> None:
    tab = open_page(sample_page, color_scheme=theme)

    def colour(name: str) -> str:
        return str(
            tab.evaluate(
                "name => { const e = document.createElement('i'); e.style.color = `var(--${name})`;"
                "document.body.append(e); const c = getComputedStyle(e).color; e.remove(); return c; }",
                name,
            )
        )

    assert (luminance(colour("paper")) > 0.5) == (theme == "light")
    for text in ("ink", "soft", "accent", "wrong", "extra"):
        assert contrast(colour(text), colour("paper")) >= 4.5, text
        assert contrast(colour(text), colour("sheet")) >= 4.5, text
    assert contrast(colour("wrong"), colour("wrong-back")) >= 4.5
    assert contrast(colour("extra"), colour("extra-back")) >= 4.5
    for mark in ("series-0", "series-1", "series-2", "series-3", "edge", "bar-best", "bar-baseline"):
        assert contrast(colour(mark), colour("paper")) >= 3, mark


def test_the_theme_can_be_switched_and_is_kept(sample_page: Path, open_page: Open) -> None:
    tab = open_page(sample_page, color_scheme="light")
    button = tab.locator("#theme")
    background = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(background)
    button.click()
    button.click()
    assert button.text_content() == "Theme: dark"
    assert tab.evaluate(background) != light
    tab.reload()
    assert tab.locator("#theme").text_content() == "Theme: dark"
    assert tab.evaluate(background) != light


def test_print_is_light_whole_and_without_controls(sample_page: Path, open_page: Open) -> None:
    tab = open_page(sample_page, color_scheme="dark", viewport={"width": 700, "height": 1000})
    tab.emulate_media(media="print", color_scheme="dark")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open])").count() == 0
    for control in ("#controls", "#theme", "nav"):
        assert not tab.locator(control).is_visible()
    assert luminance(str(tab.evaluate("getComputedStyle(document.body).backgroundColor"))) > 0.9
    assert tab.evaluate("document.documentElement.scrollWidth") <= 700
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator("details:not([open])").count() > 0


@pytest.mark.parametrize("width", [360, 390, 768])
def test_nothing_but_tables_scrolls_sideways(sample_page: Path, open_page: Open, width: int) -> None:
    tab = open_page(sample_page, viewport={"width": width, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    widest = tab.evaluate("Math.max(...Array.from(document.querySelectorAll('table.words'), t => t.scrollWidth))")
    assert widest <= width  # long sentences wrap into lines of words


def test_what_a_transcript_holds_is_shown_and_never_run(tmp_path: Path, open_page: Open) -> None:
    rows = [row(tmp_path, i, f"a {HOSTILE} </script> \u2028 b", speaker=HOSTILE, gender=HOSTILE) for i in range(3)]
    rows = [*rows, row(tmp_path, 3, "a b", gender="female", speaker="s")]
    texts = ["c </script><script>window.ran = 3</script>", "a b", "", "<!--"]
    hypotheses = tuple(Hypothesis(r, t, t) for r, t in zip(rows, texts, strict=True))
    path = write(made_report(tmp_path, {HOSTILE: hypotheses, "b": heard(rows, 0.5, 1)}), tmp_path)
    tab = open_page(path)
    assert tab.evaluate("window.ran") is None
    assert tab.locator("img").count() == 0
    assert "window.ran" in (tab.locator("#list").text_content() or "")
    assert tab.locator("[name=a] option").all_text_contents().count(HOSTILE) == 1
    tab.locator("[name=query]").fill("onerror")
    assert total(tab) == 3
    # without script the list is static: the same texts, inert as well
    plain = open_page(path, java_script_enabled=False)
    assert plain.locator("noscript img, noscript script").count() == 0


def test_the_policy_lets_no_other_script_run(sample_page: Path, chromium: Browser) -> None:
    context = chromium.new_context()
    tab = context.new_page()
    tab.goto(sample_page.as_uri())
    tab.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);"
        "const i = document.createElement('img'); i.setAttribute('onerror', 'window.ran = 2'); i.src = 'data:,';"
        "document.body.append(i); }"
    )
    refused = tab.evaluate("fetch('https://example.org/').then(() => 'loaded', () => 'refused')")
    assert (tab.evaluate("window.ran"), refused) == (None, "refused")
    context.close()


def test_data_in_a_script_element_cannot_end_it() -> None:
    text = script_json({"text": "</script><!--\u2028\u2029"})
    assert "<" not in text and "\u2028" not in text and "\u2029" not in text
    assert json.loads(text) == {"text": "</script><!--\u2028\u2029"}


def test_right_to_left_texts_and_combining_marks(tmp_path: Path, open_page: Open) -> None:
    vowelled = "שָׁלוֹם עוֹלָם טוֹב"
    rows = [row(tmp_path, i, vowelled) for i in range(2)]
    systems = {"a": tuple(Hypothesis(r, "שָׁלוֹם טוֹב מאוד", "") for r in rows), "b": heard(rows, 0.0, 0)}
    tab = open_page(write(made_report(tmp_path, systems), tmp_path, audio="none"))
    table = tab.locator("table.words").first
    assert tab.locator(".scroll:has(> table.words)").first.get_attribute("dir") == "rtl"
    words = [c for c in table.locator("tr.reference td").all() if c.text_content()]
    assert " ".join(c.text_content() or "" for c in words) == vowelled
    places = [(c.bounding_box() or {"x": 0.0})["x"] for c in words]
    assert places == sorted(places, reverse=True)  # the first word is the rightmost


def test_a_hundred_systems(tmp_path: Path, open_page: Open) -> None:
    rows = corpus(tmp_path)[:12]
    systems = {f"system_{i:03d}": heard(rows, 0.1 + i / 200, i) for i in range(100)}
    tab = open_page(
        write(made_report(tmp_path, systems), tmp_path, audio="none"), viewport={"width": 390, "height": 844}
    )
    assert tab.locator("table.league tbody tr").count() == 6
    assert "The other 94" in (tab.locator("#answer").text_content() or "")
    assert tab.locator("table.metrics tbody tr").count() == 100
    assert tab.locator("#shown input").count() == 100
    assert (
        tab.locator("#list > li")
        .first.locator("tr:not(.reference) th")
        .evaluate_all("heads => new Set(heads.map((head) => head.title)).size")
        == 4
    )
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.locator("details:has(#shown)").evaluate("d => d.open = true")
    tab.locator("#shown input").nth(50).check()
    assert "system_" in (tab.locator("#list > li").first.text_content() or "")


def test_one_system_alone(tmp_path: Path, open_page: Open) -> None:
    rows = corpus(tmp_path)
    tab = open_page(write(made_report(tmp_path, {"only": heard(rows, 0.2, 1)}), tmp_path, audio="none"))
    assert (tab.locator("#verdict").text_content() or "").startswith("only gets ")
    assert not tab.locator("[name=b]").is_visible()
    assert tab.locator("[name=outcome] option").count() == 3
    assert tab.locator("#comparisons").count() == 0


def test_empty_references_and_hypotheses_have_their_place(tmp_path: Path, open_page: Open) -> None:
    rows = [row(tmp_path, 0, ""), row(tmp_path, 1, "dobrý den")]
    systems = {"a": (Hypothesis(rows[0], "šum", "šum"), Hypothesis(rows[1], "", ""))}
    tab = open_page(write(made_report(tmp_path, systems), tmp_path, audio="none"))
    heads = tab.locator("#list h3").all_text_contents()
    assert heads[0].startswith("2 of 2 words wrong")
    assert heads[1].startswith("empty reference: counts in no rate")
    assert "šum" in (tab.locator("#list > li").nth(1).text_content() or "")


def test_without_script_the_worst_are_there(sample_report: Report, sample_page: Path, open_page: Open) -> None:
    tab = open_page(sample_page, java_script_enabled=False)
    assert tab.locator("#browser").is_hidden()
    assert tab.locator("noscript .utterance").count() == 30
    most = max(errors_of(sample_report, "beam_lm"))
    assert (tab.locator("noscript .utterance h3").first.text_content() or "").startswith(f"{most} of ")
    assert tab.locator("table.league").is_visible()


def test_the_page_is_sound_for_a_screen_reader(sample_page: Path, open_page: Open) -> None:
    tab = open_page(sample_page)
    levels = tab.evaluate("Array.from(document.querySelectorAll('h1,h2,h3,h4'), h => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for landmark in ("header", "nav", "main", "footer"):
        assert tab.locator(landmark).count() == 1
    assert tab.locator("thead th:not([scope]), tbody th:not([scope])").count() == 0
    named = "svg:not(svg svg):not([role=img][aria-label]):not([aria-hidden=true])"
    assert tab.locator(named).count() == 0
    fields = tab.locator("input, select, button").all()
    assert all(f.evaluate("f => Boolean(f.labels?.length || f.textContent)") for f in fields)
    ids = tab.evaluate("Array.from(document.querySelectorAll('[id]'), e => e.id)")
    assert len(ids) == len(set(ids))
    targets = tab.evaluate("Array.from(document.querySelectorAll('nav a'), a => a.getAttribute('href').slice(1))")
    assert targets and set(targets) <= set(ids)


def test_the_keyboard_reaches_every_control(sample_page: Path, open_page: Open) -> None:
    tab = open_page(sample_page)
    reached = []
    for _ in range(60):
        tab.keyboard.press("Tab")
        reached.append(
            str(
                tab.evaluate(
                    "document.activeElement.name || document.activeElement.id || "
                    "document.activeElement.textContent.trim().slice(0, 12)"
                )
            )
        )
        if reached[-1] == "query":
            break
    assert reached[0] == "Skip to the " and "theme" in reached and reached[-1] == "query"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert tab.evaluate(outline) == "solid"
    tab.keyboard.type("řeka")
    assert 0 < total(tab) < 60
    for name in ("outcome", "a", "b", "sort", "group"):
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.name") == name
    tab.locator("button.play").first.focus()
    tab.keyboard.press("Enter")
    expect(tab.locator("audio")).to_be_focused()


def test_an_estimated_rate_stands_on_one_line_in_the_heat_map(tmp_path: Path, open_page: Open) -> None:
    grid = tuple(
        TuningPoint(alpha, beta / 4, 0.4 + beta / 90, 0.2, redecoded=False)
        for alpha in (0.5, 1.0)
        for beta in range(12)
    )
    report = made_report(tmp_path, {"beam_lm": heard(corpus(tmp_path)[:6], 0.2, 1)}, tuning=grid, chosen=grid[0])
    tab = open_page(write(report, tmp_path, audio="none"), viewport={"width": 360, "height": 800})
    cells = tab.locator("table.heat td")
    assert cells.first.text_content() == "≈ 40.0"
    lines = cells.evaluate_all(
        "cells => cells.map(cell => { const all = document.createRange(); all.selectNodeContents(cell);"
        " return new Set([...all.getClientRects()].map(line => line.top)).size; })"
    )
    assert lines == [1] * 24
