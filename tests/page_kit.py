"""What the tests of the report page share: a small report with audio, and a Chromium that opens it.

Not a test: a plugin of pytest that they name.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from hlas.environment import environment
from hlas.manifests.rows import Hypothesis, Row
from hlas.manifests.text import Language
from hlas.report.content import Report
from hlas.report.evaluate import evaluate
from hlas.report.page import PageOptions, page
from hlas.report.provenance import Provenance
from hlas.report.systems import System, TuningPoint

WORDS = ("dobrý", "den", "kde", "je", "nádraží", "prosím", "mluvte", "pomalu", "nevím", "voda", "hora", "řeka")

Open = Callable[..., Page]


def row(folder: Path, index: int, text: str, **facts: str) -> Row:
    """An utterance with half a second of a tone."""
    file = folder / f"clip_{index}.wav"
    if not file.exists():
        tone = 0.3 * np.sin(2 * np.pi * (200 + 5 * index) * np.arange(8000) / 16000)
        soundfile.write(file, tone, 16000)
    speaker = facts.pop("speaker", f"speaker{index % 12}")
    return Row(file.name, 0.5 + index % 7, text, speaker=speaker, gender=facts.get("gender", ""))


def corpus(folder: Path, count: int = 60) -> list[Row]:
    """Utterances of 12 speakers, each with its clip."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(count)]
    return [row(folder, i, text, gender=("female", "male")[i % 2]) for i, text in enumerate(texts)]


def heard(rows: Sequence[Row], errors: float, seed: int) -> tuple[Hypothesis, ...]:
    """What a system of about that share of errors might hear: words changed, lost and added."""
    rng = np.random.default_rng(seed)
    kinds, shares = ["right", "other", "lost", "added"], [1 - errors, errors / 2, errors / 4, errors / 4]
    out = []
    for item in rows:
        words: list[str] = []
        for word in item.text.split():
            kind = str(rng.choice(kinds, p=shares))
            words += {"right": [word], "other": [word + "x"], "lost": [], "added": [word, "eh"]}[kind]
        out.append(Hypothesis(item, " ".join(words), " ".join(words)))
    return tuple(out)


def made_report(folder: Path, hypotheses: Mapping[str, Sequence[Hypothesis]], **system: Any) -> Report:
    """The first system is the baseline; `system` holds further fields of each System."""
    systems = [System(name, "other", folder, None, (), {"test": tuple(h)}, **system) for name, h in hypotheses.items()]
    return Report(
        title="page test",
        recipe="",
        language=Language("cs", "Czech", tuple("abc")),
        results=tuple(evaluate(systems, next(iter(hypotheses)), 200, 0)),
        provenance=Provenance(()),
        seed=0,
        command="hlas report a b",
        made=environment(),
        recipes=(("demo", "name: demo\n"),),
        fingerprints=(("greedy", "f" * 64),),
    )


def write(report: Report, folder: Path, **options: Any) -> Path:
    """The page's file."""
    path = folder / "report.html"
    path.write_text(page(report, PageOptions(folder, **{"workers": 1, **options})), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def sample_report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Three systems on 60 utterances; 'beam_lm' is far ahead of 'beam' and of the baseline 'greedy'."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = corpus(folder)
    grid = tuple(TuningPoint(a, b, 0.2 + a / 10 - b / 50, 0.1) for a in (0.5, 1.0) for b in (0.0, 1.0))
    hypotheses = {"greedy": heard(rows, 0.4, 1), "beam": heard(rows, 0.3, 2), "beam_lm": heard(rows, 0.05, 3)}
    return made_report(folder, hypotheses, tuning=grid, chosen=grid[1], tuned_on="dev")


@pytest.fixture(scope="session")
def sample_page(sample_report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample report's page with its audio inside."""
    return write(sample_report, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests; they skip where the machine has none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no Chromium here ({', '.join(names)}): install one, or set CHROMIUM to its path")
    root = hasattr(os, "getuid") and os.getuid() == 0  # Chromium's sandbox refuses to run as root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"] if root else [])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Open]:
    """Opens a file in a context of its own; fails where it logs an error or asks for more than files in its folder.

    `expected` is part of the console errors that a test provokes, `root` another folder that files may come from.
    """
    contexts = []
    problems: list[str] = []

    def opened(path: Path, fragment: str = "", expected: str = "\0", root: Path | None = None, **context: Any) -> Page:
        contexts.append(chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **context}))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: logged(message, expected))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("request", lambda request: foreign(request, root or path.parent))
        tab.goto(path.as_uri() + fragment)
        return tab

    def logged(message: ConsoleMessage, expected: str) -> None:
        if message.type == "error" and expected not in message.text:
            problems.append(message.text)

    def foreign(request: Request, root: Path) -> None:
        if not request.url.startswith((root.as_uri(), "data:")):
            problems.append(f"asked for {request.url}")

    yield opened
    for each in contexts:
        each.close()
    assert problems == []
