"""Size of the report page and seconds until it can be used in headless Chromium, against a page that lists everything.

Run: .venv/bin/python tools/bench/page.py [--utterances 10000] [--systems 4] [--rounds 3] [--chromium PROGRAM]

The data are random sentences with random errors, without audio. The naive page is the same document with every
utterance as a table in it and no script, which is what the browser's pages of 25 rows are to be compared with. The
clock runs from the request until the page has parsed, run its script and painted a frame; rounds are interleaved and
medians taken, so that other load on the machine hits both alike.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, sync_playwright

from hlas.environment import environment
from hlas.manifests.rows import Hypothesis, Row
from hlas.report.content import Report
from hlas.report.evaluate import evaluate
from hlas.report.page import PageOptions, page
from hlas.report.page.utterances import utterance_html
from hlas.report.provenance import Provenance
from hlas.report.systems import System

PAINTED = "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"


def made_report(utterances: int, systems: int) -> Report:
    """Systems of about 5, 10, 15 … % WER on sentences of 5 to 11 words by 200 speakers."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzáčďéěíňóřšťúůýž"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(5000)])
    p = 1 / np.arange(1, len(words) + 1)
    sentences = [rng.choice(words, rng.integers(5, 12), p=p / p.sum()) for _ in range(utterances)]
    rows = [
        Row(f"common_voice_cs_{10_000_000 + i}.mp3", 1 + len(s) / 2, " ".join(s), speaker=f"{i % 200:064x}")
        for i, s in enumerate(sentences)
    ]
    made = []
    for number in range(systems):
        texts = []
        for sentence in sentences:
            wrong = rng.random(len(sentence)) < 0.05 * (number + 1)
            texts.append(" ".join(np.where(wrong, rng.choice(words, len(sentence)), sentence)))
        hypotheses = tuple(Hypothesis(row, text, text) for row, text in zip(rows, texts, strict=True))
        made.append(System(f"system_{number}", "other", Path(), None, (), {"test": hypotheses}))
    results = tuple(evaluate(made, "system_1" if systems > 1 else "system_0", 1000, 0))
    return Report("bench", "", None, results, Provenance(()), 0, "", environment(), (), ())


def naive(report: Report) -> str:
    """The same document with every utterance in it: the list for readers without script, complete and for all."""
    document = page(report, PageOptions(Path(), audio="none", utterances=0))
    rows = "\n".join(utterance_html(report, index) for index in range(len(report.first.rows)))
    return document.replace("</main>", f"{rows}\n</main>")


def seconds_to_use(browser: Browser, path: Path) -> float:
    """From the request until a frame is painted after the script has run, in a context without a cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    tab = context.new_page()
    start = time.perf_counter()
    tab.goto(path.as_uri(), wait_until="load")
    tab.evaluate(PAINTED)
    seconds = time.perf_counter() - start
    context.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=10_000)
    parser.add_argument("--systems", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    args = parser.parse_args()

    report = made_report(args.utterances, args.systems)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        start = time.perf_counter()
        pages = {"page": page(report, PageOptions(Path(name), audio="none"))}
        writing = time.perf_counter() - start
        pages["naive"] = naive(report)
        paths = {key: Path(name) / f"{key}.html" for key in pages}
        for key, text in pages.items():
            paths[key].write_text(text, encoding="utf-8")
        flags = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=args.chromium, args=flags)
        seconds_to_use(browser, paths["page"])  # the first page of a browser also starts its processes
        times: dict[str, list[float]] = {key: [] for key in pages}
        for _ in range(args.rounds):
            for key, path in paths.items():
                times[key].append(seconds_to_use(browser, path))
        browser.close()
        medians = {key: statistics.median(values) for key, values in times.items()}
        print(f"{args.utterances} utterances x {args.systems} systems; the page is made in {writing:.2f} s")
        for key, path in paths.items():
            print(f"{key:6} {path.stat().st_size / 1e6:6.2f} MB  {medians[key]:6.2f} s until it can be used")
        print(f"naive / page: {medians['naive'] / medians['page']:.1f} times the time")


if __name__ == "__main__":
    main()
