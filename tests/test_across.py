"""`hlas report` and `hlas diff`: what a RUN leads to, what compares, what is refused, and the forms of the answer."""

import csv
import json
import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from hlas.cli import app
from hlas.errors import UserError
from hlas.files import read_json, write_json, write_json_lines
from hlas.manifests.rows import Hypothesis, Row, write_rows
from hlas.report.across.compare import Request, compare
from hlas.report.across.formats import choose_format, latex, metrics_csv
from hlas.report.across.run_diff import diff_lines, diff_runs
from hlas.report.content import comparison_cells, tuned_note
from hlas.report.markdown import markdown
from hlas.report.page.tables import comparison_tables, metrics_tables
from hlas.report.pairing import Allowed
from hlas.store import Record, Source, write_record

RULES = {"code": "cs", "name": "Czech", "version": 1, "alphabet": "a b c"}
SENTENCES = ["dobrý den", "kde je nádraží", "to nevím", "mluvte prosím pomalu", "děkuji"]


def rows(split: str = "test", count: int = 20) -> list[Row]:
    return [
        Row(f"clips/{split}_{i}.wav", 2.0, SENTENCES[i % 5], SENTENCES[i % 5].capitalize() + ".", f"speaker{i % 12}")
        for i in range(count)
    ]


def heard(items: Sequence[Row], wrong: Callable[[int], bool] = lambda i: False) -> list[Hypothesis]:
    return [
        Hypothesis(row, text, text)
        for i, row in enumerate(items)
        for text in ["x " + row.text if wrong(i) else row.text]
    ]


def add_stage(
    home: Path,
    name: str,
    kind: str,
    splits: Mapping[str, Sequence[Hypothesis]] = {},
    systems: Sequence[str] = (),
    rules: Mapping[str, Any] = RULES,
    params: Mapping[str, Any] = {},
) -> Path:
    """A finished stage in the store beside `home`, linked from it."""
    folder = home.parent / "store" / f"{kind}-{home.name}{name}"
    folder.mkdir(parents=True)
    for split, hypotheses in splits.items():
        write_rows(folder / f"{split}.jsonl", hypotheses)
    sources = tuple(Source(system, "", f"decode-{home.name}{system}", "") for system in systems)
    ingredients = {"params": params, "language": rules, "version": 1}
    environment = {"commit": f"commit of {home.name}", "versions": {"jiwer": "4.0.0"}}
    inputs = {"systems": sources} if systems else {}
    write_record(
        folder, Record(name, kind, 1, "f" * 64, ingredients, params, inputs, {}, 1.0, "2026-01-02", environment)
    )
    home.mkdir(exist_ok=True)
    (home / name).symlink_to(os.path.relpath(folder, home))
    return folder


def make_run(root: Path, name: str, systems: Mapping[str, Sequence[Hypothesis]], **options: Any) -> Path:
    """A recipe's folder with its decode stages and a report of the first of them."""
    home = root / "runs" / name
    for system, hypotheses in systems.items():
        add_stage(home, system, "decode", {"test": hypotheses}, **options)
    add_stage(home, "report", "report", systems=list(systems))
    recipe = {"name": name, "stages": {"train": {"epochs": 8 if name == "old" else 16}}}
    (home / "recipe.resolved.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return home


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return make_run(tmp_path, "old", {"greedy": heard(rows(), lambda i: i % 2 == 0), "beam": heard(rows())})


@pytest.fixture
def new(tmp_path: Path) -> Path:
    systems = {"greedy": heard(rows(), lambda i: i < 3), "extra": heard(rows(), lambda i: True)}
    return make_run(tmp_path, "new", systems, params={"width": 8})


def names(*runs: Path | str, **request: Any) -> list[str]:
    report = compare(Request(tuple(map(str, runs)), resamples=100, **request))
    return [item.name for item in report.first.systems]


def test_runs_lead_to_the_systems_of_their_reports(old: Path, new: Path, tmp_path: Path) -> None:
    assert names(old) == ["greedy", "beam"]
    assert names(old, new) == ["old/greedy", "beam", "new/greedy", "extra"]
    assert names(old / "report") == ["greedy", "beam"]
    assert names(old / "beam", new / "extra") == ["beam", "extra"]
    assert names(old / "greedy", new / "greedy") == ["old/greedy", "new/greedy"]
    assert names(f"before={old / 'greedy'}", f"after={new / 'greedy'}") == ["before", "after"]
    assert names(f"x={old}", f"y={new}")[0] == "x/greedy"
    (old / "report").unlink()  # then every system that the recipe has
    assert names(old) == ["beam", "greedy"]
    with pytest.raises(UserError, match="two systems are named"):
        names(old / "beam", old / "beam")
    with pytest.raises(UserError, match="no such file or folder"):
        names(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no hypotheses"):
        names(tmp_path / "empty")


def test_a_report_carries_where_it_comes_from(old: Path, new: Path) -> None:
    report = compare(Request((str(old), str(new)), resamples=100, baseline="beam"))
    assert [name for name, _ in report.recipes] == ["old", "new"] and "epochs: 16" in report.recipes[1][1]
    assert {record.environment["commit"] for _, record in report.provenance.stages} == {
        "commit of old",
        "commit of new",
    }
    assert report.first.baseline == "beam" and report.command.startswith("hlas")
    with pytest.raises(UserError, match="no system 'beem'"):
        names(old, baseline="beem")


def foreign(path: Path, items: Sequence[Row], texts: Sequence[str], **more: Any) -> Path:
    lines = [
        {"audio_filepath": f"/data/{row.utterance}.flac", "text": row.text, "pred_text": text, **more}
        for row, text in zip(items, texts, strict=True)
    ]
    write_json_lines(path, lines)
    return path


def test_hypotheses_of_another_tool_stand_beside_a_run(old: Path, tmp_path: Path) -> None:
    # NeMo's keys, other order, other folder and suffix of the audio, no split in the name, further keys
    items = rows()[::-1]
    file = foreign(tmp_path / "nemo.jsonl", items, [row.text for row in items], wer=0.5, duration=None)
    report = compare(Request((str(old), f"nemo={file}"), resamples=100))
    assert [item.name for item in report.first.systems] == ["greedy", "beam", "nemo"]
    nemo = report.first.systems[2]
    assert (nemo.score.wer, nemo.rtfx, nemo.audio_s) == (0.0, None, 40.0)
    assert [row.speaker for row in report.first.rows] == [row.speaker for row in rows()]
    assert any("No language is known" in warning for warning in report.warnings)


def czech(folder: Path) -> Path:
    path = folder / "cs.yaml"
    path.write_text(
        "code: cs\nname: Czech\nversion: 1\n"
        "alphabet: a á b c č d ď e é ě f g h i í j k l m n ň o ó p q r ř s š t ť u ú ů v w x y ý z ž\n"
        "golden:\n  - {in: Ahoj, out: ahoj}\n",
        encoding="utf-8",
    )
    return path


def test_texts_of_another_tool_go_through_the_rules_of_the_recipe(old: Path, tmp_path: Path) -> None:
    language = czech(tmp_path)
    (old / "recipe.resolved.yaml").write_text(f"name: old\nlanguage: {language}\n", encoding="utf-8")
    file = foreign(tmp_path / "loud.jsonl", rows(), [row.raw_text.upper() for row in rows()])
    report = compare(Request((str(old), str(file)), resamples=100))
    loud = report.first.systems[2].score
    assert loud.wer == 0.0 and loud.raw_wer is not None and loud.raw_wer > 0
    # the runs were made with other rules than the file has now
    assert [w for w in report.warnings if "changed since old ran (alphabet)" in w]


def test_texts_of_another_tool_go_through_the_rules_that_are_given(old: Path, tmp_path: Path) -> None:
    loud = [unicodedata.normalize("NFD", row.text.upper()) + "!" for row in rows()]
    file = foreign(tmp_path / "loud.test.jsonl", [replace(r, text=r.raw_text) for r in rows()], loud)
    language = czech(tmp_path)
    with pytest.raises(UserError, match="other references for 20 of 20"):
        names(old, file)
    report = compare(Request((str(old), str(file)), resamples=100, language=language))
    assert [(item.name, item.score.wer) for item in report.first.systems][1:] == [("beam", 0.0), ("loud", 0.0)]
    assert report.language is not None and report.language.code == "cs"


def test_a_report_folder_that_was_copied_away_is_read_from_its_hypotheses(old: Path, tmp_path: Path) -> None:
    copy = tmp_path / "mail" / "paper"
    items = rows()
    for system in ("a", "b.c"):
        foreign(copy / "hypotheses" / f"{system}.test.jsonl", items, [row.text for row in items])
    assert names(copy) == ["a", "b.c"]
    assert names(copy, old) == ["a", "b.c", "greedy", "beam"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"audio_filepath": "a.wav", "text": "a"}', "bad.jsonl:1: no pred_text; it has: audio_filepath, text"),
        ('{"audio_filepath": "a.wav", "text": "a", "pred_text": null}', "no pred_text"),
        ('{"text": "a", "pred_text": "a"}', "no audio_filepath"),
        ("[1]", "not a JSON object"),
        ("{", "not a JSON object"),
        ("", "no hypotheses in it"),
    ],
)
def test_a_line_that_is_no_hypothesis_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        names(path)
    with pytest.raises(UserError, match="not a JSON lines file"):
        text = tmp_path / "a.txt"
        text.write_text("a\n", encoding="utf-8")
        names(text)


def test_a_clip_that_occurs_twice_is_named(tmp_path: Path) -> None:
    items = [*rows(), rows()[4]]
    with pytest.raises(UserError, match="1 utterances occur twice: test_4"):
        names(foreign(tmp_path / "twice.jsonl", items, ["a"] * 21))


def test_other_clips_are_refused_and_named_where_they_are_allowed(old: Path, tmp_path: Path) -> None:
    items = rows(count=15)
    file = foreign(tmp_path / "half.test.jsonl", items, [row.text for row in items])
    with pytest.raises(UserError, match=r"5 only in 'greedy'.*\n.*--allow-different-clips"):
        names(old, file)
    report = compare(Request((str(old), str(file)), resamples=100, allowed=Allowed(different_clips=True)))
    assert report.first.systems[0].score.utterances == 15
    assert "Only the 15 that all of them heard" in report.first.warnings[0]


def test_other_normalisers_are_refused_and_named_where_they_are_allowed(old: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path, "other", {"c": heard(rows())}, rules={**RULES, "hyphen": "inner", "version": 2})
    with pytest.raises(UserError, match=r"went through other rules \((hyphen, version|version, hyphen)\)"):
        names(old, other)
    report = compare(Request((str(old), str(other)), resamples=100, allowed=Allowed(different_text=True)))
    assert "also one of rules" in report.warnings[0]


def test_only_the_split_asked_for(tmp_path: Path) -> None:
    home = tmp_path / "runs" / "r"
    add_stage(home, "a", "decode", {"test": heard(rows()), "dev": heard(rows("dev"))})
    assert [r.split for r in compare(Request((str(home),), resamples=100)).results] == ["test", "dev"]
    assert [r.split for r in compare(Request((str(home),), resamples=100, split="dev")).results] == ["dev"]
    with pytest.raises(UserError, match="'a' has no 'train'"):
        names(home, split="train")


def test_csv_and_latex_hold_the_numbers(old: Path) -> None:
    report = compare(Request((f"x_&%={old / 'greedy'}", f"@sum={old / 'beam'}"), resamples=200))
    greedy, beam = csv.DictReader(metrics_csv(report).splitlines())
    assert float(greedy["wer"]) == report.first.systems[0].score.wer and greedy["p_value"] == ""
    assert float(beam["p_holm"]) == report.first.comparisons[0].p_holm
    assert beam["system"] == "'@sum"  # no formula
    table = latex(report)
    assert not re.search(r"(?<!\\)%", table)  # would make the rest of its line a comment
    assert r"x\_\&\% & " in table and r"\textbf{0.0}" in table
    assert table.count(r"\\") == 3 and table.count(r"\begin{table}") == table.count(r"\end{table}") == 1


def test_the_name_of_the_file_says_the_format() -> None:
    assert [choose_format(Path(f"a{end}"), "") for end in (".html", ".md", ".json", ".csv", ".tex")] == [
        *("html", "md", "json", "csv", "latex"),
    ]
    assert choose_format(Path("a.txt"), "latex") == "latex"
    with pytest.raises(UserError, match="says no format"):
        choose_format(Path("a.txt"), "")
    with pytest.raises(UserError, match="no format 'pdf'"):
        choose_format(Path("a.html"), "pdf")


def test_a_tuned_system_is_named_under_the_split_that_it_was_tuned_on(tmp_path: Path) -> None:
    both = {"test": heard(rows()), "dev": heard(rows("dev"))}
    home = tmp_path / "runs" / "tuned"
    add_stage(home, "greedy", "decode", both)
    write_json(add_stage(home, "beam", "decode", both) / "tuning.json", {"split": "dev"})
    report = compare(Request((str(home),), resamples=200))
    dev, test = "Tuned on dev, which flatters them here: beam.", "Tuned on"
    for text in (markdown(report), metrics_tables(report), latex(report)):
        assert text.count(dev) == text.count(test) == 1
    assert tuned_note(report.first) == ""


def test_comparisons_say_the_same_in_markdown_and_on_the_page(old: Path) -> None:
    report = compare(Request((str(old),), resamples=200))
    cells = comparison_cells(report.first.comparisons[0])
    assert cells[5].endswith("(few segments)") and cells[8] == "40.0 s"
    assert all(cell in comparison_tables(report) for cell in cells)


def test_markdown_shows_a_text_as_it_stands(tmp_path: Path) -> None:
    foreign(tmp_path / "x.jsonl", rows(count=2), ["&lt;b> ~~a~~", "| *b*"])
    text = markdown(compare(Request((str(tmp_path / "x.jsonl"),), resamples=200)))
    assert r"\&lt;b> \~\~a\~\~" in text and r"\| \*b\*" in text


def test_many_systems_are_not_all_named_in_a_sentence(tmp_path: Path) -> None:
    for i in range(9):
        foreign(tmp_path / f"x{i}.jsonl", rows(count=2), ["a", "b"])
    (warning,) = compare(Request((str(tmp_path),), resamples=200)).warnings
    assert "x0, x1, x2, x3, x4 and 4 more are scored as they are" in warning


def test_diff_corrects_for_all_that_it_shows(old: Path, new: Path) -> None:
    both = {"test": heard(rows(), lambda i: i < 9), "dev": heard(rows("dev"), lambda i: i < 9)}
    a, b = old.parent / "a", old.parent / "b"
    for home, splits in ((a, both), (b, {split: heard([h.row for h in own]) for split, own in both.items()})):
        for name in ("greedy", "beam"):
            add_stage(home, name, "decode", splits)
    diff = diff_runs(str(a), str(b), Request((), resamples=200))
    assert len(diff.systems) == 4
    assert all(s.comparison.p_holm == pytest.approx(4 * s.comparison.p_value) for s in diff.systems)


def test_diff_says_what_it_passed_over(old: Path, tmp_path: Path) -> None:
    home = tmp_path / "runs" / "fewer"
    add_stage(home, "greedy", "decode", {"test": heard(rows(count=8))})
    diff = diff_runs(str(old / "greedy"), str(home / "greedy"), Request((), allowed=Allowed(True), resamples=200))
    assert any("Only the 8 that all of them heard are scored" in warning for warning in diff.warnings)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("duration", text) for text in ("NaN", "Infinity", "-1", '"2"', "true")),
        *(("offset", '"x"'), ("snr_db", "NaN"), ("speaker", "[1]"), ("pred_text", '"\\ud800"')),
    ],
)
def test_a_value_of_another_kind_is_named(tmp_path: Path, key: str, value: str) -> None:
    row = {"audio_filepath": '"a.wav"', "text": '"a"', "pred_text": '"a"'} | {key: value}
    path = tmp_path / "x.jsonl"
    path.write_text("{" + ", ".join(f'"{k}": {v}' for k, v in row.items()) + "}\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"x\.jsonl:1.*{key} is"):
        compare(Request((str(path),), resamples=200))


def test_numbers_may_name_speakers_and_a_file_must_be_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"audio_filepath": "a.wav", "text": "a", "pred_text": "a", "speaker": 5}\n', encoding="utf-8")
    assert compare(Request((str(path),), resamples=200)).first.rows[0].speaker == "5"
    path.write_bytes(b'{"audio_filepath": "a.wav", "text": "\xe4", "pred_text": "a"}\n')
    with pytest.raises(UserError, match="not UTF-8"):
        compare(Request((str(path),), resamples=200))


def test_diff_says_what_changed_in_recipe_numbers_and_utterances(old: Path, new: Path) -> None:
    diff = diff_runs(str(old), str(new), Request((), resamples=200))
    changes = {change.where: (change.old, change.new) for change in diff.changes}
    assert changes["recipe: stages.train.epochs"] == ("8", "16")
    assert changes["stage greedy: params.width"] == (None, "8")
    assert changes["stage greedy: commit"] == ("commit of old", "commit of new")
    (greedy,) = diff.systems
    before, after = ({i for i in range(20) if wrong(i)} for wrong in (lambda i: i % 2 == 0, lambda i: i < 3))
    assert (greedy.mended, greedy.broken) == (len(before - after), len(after - before))
    assert greedy.rates["sentence_error_rate"] == (0.5, 0.15)
    assert (diff.only_old, diff.only_new) == (("beam",), ("extra",))
    assert greedy.largest[0].utterance == "test_1" and greedy.largest[0].new.startswith("x ")
    lines = "\n".join(diff_lines(diff))
    assert "stages.train.epochs: 8 → 16" in lines and "9 now right" not in lines
    assert f"{len(before - after)} now right" in lines


def test_diff_of_two_stages_names_both(old: Path) -> None:
    (system,) = diff_runs(str(old / "greedy"), str(old / "beam"), Request((), resamples=100)).systems
    assert (system.name, system.broken, system.mended) == ("greedy → beam", 0, 10)


def test_the_commands(old: Path, new: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    out, tensorboard = tmp_path / "out" / "a.json", tmp_path / "tb"
    arguments = [
        "report",
        str(old),
        str(new),
        "--out",
        str(out),
        "--bootstrap",
        "100",
        "--tensorboard",
        str(tensorboard),
    ]
    done = runner.invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0 and "lowest word error rate" in done.output
    data = read_json(out)
    assert list(data["systems"]) == ["old/greedy", "beam", "new/greedy", "extra"]
    assert len(list(tensorboard.rglob("events*"))) == 4
    page = runner.invoke(app, ["report", str(old), "-o", str(tmp_path / "a.html"), "--audio", "none"])
    assert page.exit_code == 0 and "greedy" in (tmp_path / "a.html").read_text(encoding="utf-8")
    diff = runner.invoke(app, ["diff", str(old), str(new), "--format", "json", "--bootstrap", "100"])
    assert [s["name"] for s in json.loads(diff.output)["systems"]] == ["greedy"]
    text = runner.invoke(app, ["diff", str(old), str(new), "--bootstrap", "100"])
    assert "values differ between" in text.output
