"""What Whisper was told and what it doubts in its own texts: in every form of the report."""

import csv
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from hlas.files import read_json
from hlas.manifests.rows import Hypothesis, Row, write_rows
from hlas.manifests.text import Language
from hlas.report.across.formats import metrics_csv
from hlas.report.evaluate import evaluate
from hlas.report.hearing import HEARING_COLUMNS, hearing_caveats, hearing_note, hearing_rows
from hlas.report.pairing import Allowed
from hlas.report.stage import Params, _report, run
from hlas.report.systems import System, load_systems
from hlas.stage import Input, Stage
from hlas.store import Record, write_record

HSB = Language("hsb", "Upper Sorbian", tuple("abcdefghijklmnopqrstuvwxyzćčěłńóřšžź"), whisper_code="cs")
ROWS = [Row(f"clips/{i}.wav", 2.0, "dobry dźeń", speaker=f"s{i}") for i in range(12)]
DOUBTS = {0: ("silence",), 1: ("no_speech", "repetitive"), 5: ("repetitive",), 7: ("over_30_s",)}
CELLS = ["cs", "clip and 8 s, at most 30 s", "4 of 12", "1", "1", "2", "0", "1"]


def made(root: Path, name: str, kind: str, summary: dict[str, Any], texts: Sequence[Hypothesis]) -> Input:
    folder = root / "store" / f"{kind}-{name}"
    folder.mkdir(parents=True)
    write_rows(folder / "test.jsonl", texts)
    write_record(folder, Record(name, kind, 1, "f" * 64, {}, {}, {}, summary, 1.0, "2026-01-02", {}))
    return Input(folder, name)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A report on greedy, a Whisper that was told Czech and doubts four texts, one that guessed and doubts none."""
    plain = [Hypothesis(row, row.text, row.text) for row in ROWS]
    doubted = [replace(h, doubts=DOUBTS.get(i, ())) for i, h in enumerate(plain)]
    told = {"language": "cs", "padding_s": 8.0, "doubts": {"test": {"silence": 1}}}
    systems = (
        made(tmp_path, "greedy", "decode", {"language": "never told"}, plain),
        made(tmp_path, "whisper", "transcribe", told, doubted),
        made(tmp_path, "guessing", "transcribe", {"language": "auto", "padding_s": None}, plain),
    )
    folder = tmp_path / "store" / "report-x.partial"
    folder.mkdir()
    return Stage("report", "report", folder, {"systems": systems}, HSB, logging.getLogger("test"), 1, recipe="hsb")


def test_the_report_says_what_whisper_was_told_and_doubts(stage: Stage) -> None:
    run(Params(bootstrap=100, audio="none"), stage)
    html = unescape((stage.folder / "report.html").read_text(encoding="utf-8"))
    text = (stage.folder / "report.md").read_text(encoding="utf-8").replace("\\", "")
    for line in (
        "whisper was told that the language is 'cs', not 'hsb'.",
        "guessing was told no language and guessed it for each clip.",
        "Texts that a system doubts itself, on test: "
        "whisper 4 of 12 (silence 1, no speech 1, repetitive 2, over 30 s 1).",
        "repetitive: the text repeats itself, at every temperature.",
    ):
        assert line in html and line in text, line
    head, whisper, guessing = ["system", *HEARING_COLUMNS[1:]], ["whisper", *CELLS], ["guessing"]
    guessing += ["none: guessed for each clip", "30 s", "0 of 12", *"00000"]
    for cells in (head, whisper, guessing):
        assert f"| {' | '.join(cells)} |\n" in text
    table = html[html.index('class="wide hearing"') :].partition("</table>")[0]
    lines = [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", line) for line in table.split("<tr>")[1:]]
    assert lines == [head, whisper, guessing]
    assert "over 30 s: longer than 30 s" in text and "improbable: the text" not in text  # only those that are there


def test_programs_read_it_in_metrics_json_and_in_csv(stage: Stage) -> None:
    run(Params(bootstrap=100, audio="none"), stage)
    systems = read_json(stage.folder / "metrics.json")["systems"]
    greedy, whisper, guessing = (systems[name]["test"] for name in ("greedy", "whisper", "guessing"))
    assert whisper["doubts"] == {"silence": 1, "no_speech": 1, "repetitive": 2, "over_30_s": 1}
    assert (whisper["told_language"], whisper["padding_s"]) == ("cs", 8.0)
    assert (guessing["told_language"], guessing["padding_s"], guessing["doubts"]) == ("auto", None, {})
    assert greedy["doubts"] == {} and not {"told_language", "padding_s"} & greedy.keys()
    with (stage.folder / "hypotheses" / "whisper.test.csv").open(encoding="utf-8", newline="") as file:
        column = [line["doubts"] for line in csv.DictReader(file)]
    assert {i: tuple(cell.split()) for i, cell in enumerate(column) if cell} == DOUBTS
    lines = {line["system"]: line for line in csv.DictReader(metrics_csv(_report(Params(), stage)).splitlines())}
    assert (lines["whisper"]["doubts_repetitive"], lines["whisper"]["told_language"]) == ("2", "cs")
    assert (lines["greedy"]["doubts_repetitive"], lines["greedy"]["told_language"]) == ("", "")


def test_only_doubts_about_what_is_compared_are_counted(stage: Stage) -> None:
    """Where another system lacks clips, those count in no number."""
    few = System("few", "other", Path(), None, (), {"test": tuple(Hypothesis(r, r.text, r.text) for r in ROWS[4:])})
    systems = [*load_systems(stage.inputs["systems"]), few]
    (result,) = evaluate(systems, "few", 100, 0, Allowed(different_clips=True))
    assert hearing_rows(result)[0] == ["whisper", *CELLS[:2], "2 of 8", "0", "0", "1", "0", "1"]


def test_no_whisper_no_table(stage: Stage) -> None:
    (result,) = evaluate(load_systems(stage.inputs["systems"][:1]), "greedy", 100, 0)
    assert (hearing_rows(result), hearing_note(result), hearing_caveats(result, HSB)) == ([], "", [])


@pytest.mark.parametrize(("spoken", "said"), [("cs", False), ("cs-CZ", False), ("hsb", True)])
def test_a_region_is_no_other_language(stage: Stage, spoken: str, said: bool) -> None:
    (result,) = evaluate(load_systems(stage.inputs["systems"][1:2]), "whisper", 100, 0)
    lines = hearing_caveats(result, Language(spoken, "x", ("a",)))
    assert any("was told that the language" in line for line in lines) is said
    assert any("doubts itself, on test: whisper 4 of 12" in line for line in lines)
