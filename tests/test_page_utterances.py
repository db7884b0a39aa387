"""The utterance browser of the report page in a real headless Chromium: find, sort, see, hear and link utterances."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Page

from hlas.manifests.rows import Row
from hlas.report.content import Report
from hlas.report.diffs import edit_script
from hlas.report.page.clips import Cut, embedded_clips
from page_kit import Open, corpus, heard, made_report, row, write

COUNT = 60  # utterances of the sample report

pytest_plugins = ("page_kit",)


def shown_names(tab: Page) -> list[str]:
    return [t.split(" · ")[0] for t in tab.locator("#list h3 .soft").all_text_contents()]


def status(tab: Page) -> str:
    return tab.locator("#status").text_content() or ""


def total(tab: Page) -> int:
    found = re.search(r"(\d+) utterances", status(tab))
    assert found, status(tab)
    return int(found[1])


def errors_of(report: Report, system: str) -> list[int]:
    item = next(item for item in report.first.systems if item.name == system)
    return [int(n) for n in item.score.utterance_errors]


def names_where(report: Report, keep: Callable[[int], bool]) -> set[str]:
    return {r.utterance for i, r in enumerate(report.first.rows) if keep(i)}


def test_filters_and_search_keep_what_a_loop_keeps(sample_report: Report, sample_page: Path, open_page: Open) -> None:
    tab = open_page(sample_page)
    best, base = errors_of(sample_report, "beam_lm"), errors_of(sample_report, "greedy")
    assert total(tab) == COUNT
    outcomes: dict[str, Callable[[int], bool]] = {
        "right": lambda i: best[i] == 0,
        "wrong": lambda i: best[i] > 0,
        "gained": lambda i: best[i] == 0 and base[i] > 0,
        "lost": lambda i: best[i] > 0 and base[i] == 0,
        "both": lambda i: best[i] > 0 and base[i] > 0,
    }
    for outcome, keep in outcomes.items():
        tab.locator("[name=outcome]").select_option(outcome)
        assert total(tab) == len(names_where(sample_report, keep)), outcome
        if total(tab) <= 25:
            assert set(shown_names(tab)) == names_where(sample_report, keep)
    tab.get_by_role("button", name="Reset").click()
    assert total(tab) == COUNT

    tab.locator("[name=group]").select_option(label="Gender")
    tab.locator("[name=value]").select_option(label="female (30)")
    assert total(tab) == 30
    tab.locator("[name=query]").fill("ŘEKA")
    rows = sample_report.first.rows
    texts = [
        [r.text, *(item.hypotheses[i].pred_text for item in sample_report.first.systems)] for i, r in enumerate(rows)
    ]
    wanted = names_where(sample_report, lambda i: i % 2 == 0 and any("řeka" in text for text in texts[i]))
    assert 0 < len(wanted) < 25
    assert set(shown_names(tab)) == wanted
    tab.locator("[name=query]").fill("no such words")
    assert status(tab).startswith("0 utterances")
    assert shown_names(tab) == []


def test_sorting(sample_report: Report, sample_page: Path, open_page: Open) -> None:
    tab = open_page(sample_page)
    rows = sample_report.first.rows
    place = {r.utterance: i for i, r in enumerate(rows)}
    best, base = errors_of(sample_report, "beam_lm"), errors_of(sample_report, "greedy")
    keys: dict[str, Callable[[int], float]] = {
        "worst": lambda i: -best[i],
        "rate": lambda i: -best[i] / len(rows[i].text.split()),
        "lost": lambda i: base[i] - best[i],
        "gained": lambda i: best[i] - base[i],
        "longest": lambda i: -rows[i].duration,
        "shortest": lambda i: rows[i].duration,
    }
    for sort, key in keys.items():
        tab.locator("[name=sort]").select_option(sort)
        shown = [key(place[name]) for name in shown_names(tab)]
        assert shown == sorted(map(key, range(COUNT)))[:25], sort
    tab.locator("[name=sort]").select_option("name")
    assert shown_names(tab) == sorted(place)[:25]
    tab.locator("[name=sort]").select_option("worst")
    tab.locator("[name=a]").select_option(label="greedy")
    assert [base[place[name]] for name in shown_names(tab)] == sorted(base, reverse=True)[:25]


MARKED = """Array.from(document.querySelectorAll('#list > li'), (item) => [
  item.querySelector('h3 .soft').textContent.split(' · ')[0],
  Array.from(item.querySelectorAll('tr:not(.reference)'), (line) => [
    line.querySelector('th').title,
    line.querySelectorAll('td.substitute, td.delete').length +
      Array.from(line.querySelectorAll('td.insert'), (cell) => cell.firstChild.textContent.split(' ').length)
        .reduce((sum, words) => sum + words, 0),
  ]),
])"""  # [name of the utterance, [[system, errors that one line of words marks], …]] for each row of the browser


def test_every_error_that_is_counted_is_marked(sample_report: Report, sample_page: Path, open_page: Open) -> None:
    tab = open_page(sample_page)
    marked = {}
    for number in range(3):
        for name, lines in tab.evaluate(MARKED):
            marked[name] = dict.fromkeys((item.name for item in sample_report.first.systems), 0)
            for system, errors in lines:
                marked[name][system] += errors
        if number < 2:
            tab.get_by_role("button", name="Next").click()
    assert tab.get_by_role("button", name="Next").is_disabled()
    assert marked == {
        row.utterance: {item.name: int(item.score.utterance_errors[i]) for item in sample_report.first.systems}
        for i, row in enumerate(sample_report.first.rows)
    }


def test_an_edit_script_spells_out_the_alignment() -> None:
    assert edit_script("a b c", "a b c") == "3="
    assert edit_script("a b c", "a x c d") == "1=1s1=1i"
    assert edit_script("a b", "") == "2d"
    assert edit_script("", "a") == "1i"


PLAYED = """(audio) => new Promise((done, fail) => {
  const look = () => audio.currentTime > 0.05 && done(audio.currentTime);
  audio.addEventListener('timeupdate', look);
  audio.addEventListener('error', () => fail(audio.error));
  look();
})"""  # the seconds played, once sound has come


def test_embedded_audio_plays(sample_page: Path, open_page: Open) -> None:
    tab = open_page(sample_page)
    tab.locator("button.play").first.click()
    player = tab.locator("audio")
    assert player.evaluate(PLAYED) > 0.05
    assert player.evaluate("a => a.duration") == pytest.approx(0.5, abs=0.1)
    assert player.evaluate("a => a.error") is None
    assert str(player.evaluate("a => a.currentSrc")).startswith("data:audio/mpeg;base64,")


def test_linked_audio_plays_and_a_missing_file_says_so(sample_report: Report, open_page: Open) -> None:
    folder = sample_report.first.audio_folder
    path = write(sample_report, folder, audio="link", audio_mb=0.0)
    assert 'id="clip-' not in path.read_text(encoding="utf-8")
    tab = open_page(path, expected="net::ERR_FILE_NOT_FOUND")
    tab.locator("button.play").first.click()
    assert tab.locator("audio").evaluate(PLAYED) > 0.05
    assert str(tab.locator("audio").evaluate("a => a.currentSrc")).endswith(".wav")
    name = shown_names(tab)[1]
    hidden = (folder / f"{name}.wav").rename(folder / "elsewhere")
    try:
        tab.locator("#list > li").nth(1).locator("button.play").click()
        tab.get_by_text("The audio file is not where it was.").wait_for()
    finally:
        hidden.rename(folder / f"{name}.wav")
        path.unlink()


def test_links_of_a_stage_hold_from_the_recipes_folder_too(tmp_path: Path, open_page: Open) -> None:
    (tmp_path / "store" / "report-a").mkdir(parents=True)
    (tmp_path / "store" / "manifests-b").mkdir()
    (tmp_path / "demo").mkdir()
    rows = corpus(tmp_path / "store" / "manifests-b", 2)
    report = made_report(tmp_path / "store" / "manifests-b", {"a": heard(rows, 0.5, 1)})
    write(report, tmp_path / "store" / "report-a", audio="link", audio_mb=0.0)
    (tmp_path / "demo" / "report.html").symlink_to("../store/report-a/report.html")
    (tmp_path / "demo" / "report").symlink_to("../store/report-a")
    for path in ("store/report-a/report.html", "demo/report.html", "demo/report/report.html"):
        tab = open_page(tmp_path / path, expected="net::ERR_FILE_NOT_FOUND", root=tmp_path)
        tab.locator("button.play").first.click()
        assert tab.locator("audio").evaluate(PLAYED) > 0.05, path


def test_clips_fill_the_limit_in_their_order(tmp_path: Path) -> None:
    rows = corpus(tmp_path)
    wanted = {i: Cut(tmp_path / r.audio_filepath, None, r.duration) for i, r in enumerate(rows[:10])}
    wanted[2] = Cut(tmp_path / "gone.wav", None, 1.0)
    everything = embedded_clips(wanted, 10**9, workers=1)
    assert list(everything) == [0, 1, *range(3, 10)]
    limit = sum(len(everything[i].base64) for i in (0, 1, 3))
    assert list(embedded_clips(wanted, limit, workers=1)) == [0, 1, 3]
    assert embedded_clips(wanted, limit, workers=1) == embedded_clips(wanted, limit, workers=2)
    half = embedded_clips({0: Cut(tmp_path / rows[0].audio_filepath, 0.25, 0.25)}, 10**9, workers=1)
    assert len(half[0].base64) < len(everything[0].base64)
    mp3 = tmp_path / "clip.mp3"
    soundfile.write(mp3, np.zeros(8000), 16000)
    assert embedded_clips({0: Cut(mp3, None, 0.5)}, 10**9, workers=1)[0].media_type == "audio/mpeg"


def test_a_link_opens_its_utterance(sample_report: Report, sample_page: Path, open_page: Open) -> None:
    tab = open_page(sample_page)
    tab.get_by_role("button", name="Next").click()
    name = shown_names(tab)[3]
    tab.locator("#list > li").nth(3).get_by_text("Copy link").click()
    tab.get_by_text(re.compile("Link (copied|is in the address bar)")).wait_for()
    assert tab.url.endswith(f"#u={name}")

    tab = open_page(sample_page, f"#u={name}")
    found = tab.locator("#list .found")
    assert name in (found.text_content() or "")
    box = found.bounding_box()
    assert box and 0 < box["y"] < 800
    tab.locator("[name=query]").fill("řeka")
    other = next(r.utterance for r in sample_report.first.rows if "řeka" not in r.text)
    tab.evaluate("name => { location.hash = '#u=' + name }", other)
    tab.locator("#list .found", has_text=other).wait_for()
    assert tab.locator("[name=query]").input_value() == ""
    tab.evaluate("location.hash = '#u=nobody%'")
    tab.get_by_text("There is no utterance named nobody% on this page.").wait_for()


def test_thousands_of_utterances_make_one_page_of_rows(tmp_path: Path, open_page: Open) -> None:
    rows = [row(tmp_path, i % 5, f"slovo {i}") for i in range(5)]
    many = [Row(f"{i}.wav", 1.0, f"slovo číslo {i}") for i in range(3000)]
    path = write(made_report(tmp_path, {"a": heard(many, 0.1, 1), "b": heard(many, 0.2, 2)}), tmp_path, audio="none")
    assert rows and path.stat().st_size < 1.5e6
    tab = open_page(path)
    assert tab.locator("#list > li").count() == 25
    assert total(tab) == 3000
    tab.evaluate("location.hash = '#u=2999'")
    tab.locator("#list .found").wait_for()
    assert tab.locator("#list > li").count() == 25
    capped = write(made_report(tmp_path, {"a": heard(many, 0.1, 1)}), tmp_path, audio="none", utterances=40)
    assert total(open_page(capped)) == 40
    assert "40 of the 3000 test utterances" in capped.read_text(encoding="utf-8")
