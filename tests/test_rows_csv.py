"""CSVs for people: what a spreadsheet may not take for a formula."""

import csv
from pathlib import Path

from hlas.manifests.rows import Hypothesis, Row
from hlas.manifests.rows_csv import COLUMNS, write_hypotheses_csv


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_no_text_is_a_formula_for_a_spreadsheet(tmp_path: Path) -> None:
    texts = ["=cmd()", "+1", "-a", "@x", "\t=y", "plain - text", "'quoted'", 'a "b", c']
    row = Row("a.wav", 1.0, "text")
    write_hypotheses_csv(tmp_path / "a.csv", [Hypothesis(row, text, text, logit_score=-1.5) for text in texts])
    table = read(tmp_path / "a.csv")
    assert [line["pred_text"] for line in table] == ["'" + t for t in texts[:5]] + texts[5:]
    assert {line["logit_score"] for line in table} == {"-1.5"}  # a number is no formula


def test_counts_are_further_columns_and_an_empty_file_has_its_header(tmp_path: Path) -> None:
    hypothesis = Hypothesis(Row("a.wav", 1.0, ""), "b", "b")
    write_hypotheses_csv(tmp_path / "a.csv", [hypothesis], [{"hits": 0, "wer": None}])
    (line,) = read(tmp_path / "a.csv")
    assert (line["hits"], line["wer"], line["utterance"]) == ("0", "", "a")
    write_hypotheses_csv(tmp_path / "b.csv", [])
    assert (tmp_path / "b.csv").read_text(encoding="utf-8") == ",".join(COLUMNS) + "\n"
