"""`hlas score`: two plain text files, paired line by line."""

import csv
import json
import unicodedata
from pathlib import Path

import pytest

from hlas.errors import UserError
from hlas.manifests.text import Language
from hlas.report.score import score_files, score_text

LANGUAGE = Language("cs", "Czech", tuple("aábcčdďeéěfghiíjklmnňoópqrřsštťuúůvwxyýzž"))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_score_files(tmp_path: Path) -> None:
    reference = write(tmp_path / "ref.txt", "Dobrý den!\nto nevím\n\n")
    hypothesis = write(tmp_path / "hyp.txt", "dobrý den\n\nslovo\n")
    plain = score_files(reference, hypothesis, None)
    assert plain["wer"] == pytest.approx(4 / 4)
    assert (plain["utterances"], plain["empty_references"]) == (3, 1)
    ruled = score_files(reference, hypothesis, LANGUAGE)
    assert ruled["wer"] == pytest.approx(2 / 4)
    assert ruled["raw_wer"] == plain["wer"]
    assert "WER 50.00 %" in score_text(ruled)
    assert json.loads(score_text(ruled, "json")) == ruled


def test_score_files_refuses_what_cannot_be_paired(tmp_path: Path) -> None:
    reference = write(tmp_path / "ref.txt", "a\nb\nc\n")
    with pytest.raises(UserError, match=r"2 lines, but .*ref\.txt has 3"):
        score_files(reference, write(tmp_path / "hyp.txt", "a\nb\n"), None)
    with pytest.raises(UserError, match="no such file"):
        score_files(reference, tmp_path / "none.txt", None)
    separators_inside_a_line = write(tmp_path / "odd.txt", "a\u2028a\nb\x0c\nc")
    assert score_files(reference, separators_inside_a_line, None)["utterances"] == 3
    with pytest.raises(UserError, match="no format 'xml'"):
        score_text(score_files(reference, reference, None), "xml")


def test_csv_and_markdown_hold_the_numbers_of_json(tmp_path: Path) -> None:
    reference = write(tmp_path / "ref.txt", "a b\nc\n")
    result = score_files(reference, write(tmp_path / "hyp.txt", "a x\nc\n"), None)
    (line,) = csv.DictReader(score_text(result, "csv").splitlines())
    assert (float(line["wer"]), int(line["hits"]), float(line["raw_wer"])) == (result["wer"], 2, result["wer"])
    assert [float(line["wer_low"]), float(line["wer_high"])] == result["wer_ci95"]
    assert f"| chrf | {result['chrf']:.6g} |" in score_text(result, "md").splitlines()


def test_other_unicode_forms_are_normalised_with_a_language_and_named_without(tmp_path: Path) -> None:
    text = "dobrý den\nříčka\n"
    composed = write(tmp_path / "ref.txt", unicodedata.normalize("NFC", text))
    parts = write(tmp_path / "hyp.txt", unicodedata.normalize("NFD", text))
    plain = score_files(composed, parts, None)
    assert plain["wer"] == pytest.approx(2 / 3)
    assert "in NFC the WER is 0.00 %" in plain["notes"][0] and "in NFC the WER" in score_text(plain)
    ruled = score_files(composed, parts, LANGUAGE)
    assert ruled["wer"] == 0.0 and not any("Unicode" in note for note in ruled["notes"])
    assert "2 utterances are too few" in ruled["notes"][0]
    assert not any("Unicode" in note for note in score_files(composed, composed, None)["notes"])


def test_right_to_left_and_combining_marks_are_words_like_any_other(tmp_path: Path) -> None:
    reference = write(tmp_path / "ref.txt", "שָׁלוֹם עוֹלָם\nमैं ठीक हूँ\n")
    hypothesis = write(tmp_path / "hyp.txt", "שָׁלוֹם עולם\nमैं ठीक हूँ\n")
    result = score_files(reference, hypothesis, None)
    assert (result["substitutions"], result["hits"], result["words"]) == (1, 4, 5)
