"""`hlas language check` and `hlas language new`, on files of every kind they read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from hlas.cli import app
from hlas.errors import UserError
from hlas.manifests.language import sentences as sentence_file
from hlas.manifests.language.check import check_file, check_json, check_lines, fate
from hlas.manifests.language.draft import write_draft
from hlas.manifests.language.file import find_language
from hlas.manifests.language.sentences import BadLine, open_sentences
from hlas.manifests.text import golden_failures, load_language

RU = load_language(find_language("ru"))
SENTENCES = [
    "Поезд уже ушёл.",  # ё: letters differ
    "Мы дома!",
    "Bсе ждут cнега.",
    "Это Intel.",
    "Их было 5.",
    "сто %",
    "— …",
]
OUTCOMES = {"kept": 1, "changed": 2, "foreign_letter": 1, "digits": 1, "symbol": 1, "no_text": 1}


def write(path: Path, *lines: str, end: str = "\n") -> Path:
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def test_every_outcome_is_counted_with_examples(tmp_path: Path) -> None:
    result = check_file(RU, open_sentences(write(tmp_path / "a.txt", *SENTENCES)), examples=1)
    assert result.outcomes == OUTCOMES
    assert result.sentences == len(SENTENCES)
    data = check_json(RU, result)
    assert (data["accepted"], data["rejected"]) == (3, 4)
    assert data["examples"]["changed"] == [{"raw_text": "Поезд уже ушёл.", "text": "поезд уже ушел", "detail": ""}]
    assert data["examples"]["foreign_letter"][0]["detail"] == "eilnt"
    characters = {row["character"]: (row["sentences"], row["becomes"]) for row in data["characters"]}
    assert characters["."] == (4, "space")
    assert characters["ё"] == (1, "'е'")
    assert characters["c"] == (1, "'с'")
    assert characters["n"] == (1, "rejected: foreign_letter")
    assert characters["5"] == (1, "rejected: digits")
    assert characters["%"] == (1, "rejected: symbol")
    text = "\n".join(check_lines(RU, result))
    assert "rejected: foreign_letter           1   14.286 %" in text
    assert "→ [eilnt]" in text


def test_tables_and_manifests_are_read_by_their_column_and_key(tmp_path: Path) -> None:
    table = write(
        tmp_path / "train.tsv",
        "\ufeffclient_id\tsentence_id\tsentence\tlocale",
        'x\t1\t"Мы дома\tru',  # a lone quote is a character
        "",
        "x\t2\tМы дома",  # a cell is missing
        "x\t3\tХлеб\tru",
        end="\r\n",
    )
    manifest = write(
        tmp_path / "dev.jsonl",
        json.dumps({"text": "мы дома", "raw_text": "Мы дома!"}),
        json.dumps({"text": "хлеб"}),
        "[1]",
        "{",
        json.dumps({"text": 5}),
    )
    bad = BadLine("bad_row", "x\t2\tМы дома")
    assert [*_read(table)] == ['"Мы дома', bad, "Хлеб"]
    assert [*_read(manifest)] == [
        "Мы дома!",
        "хлеб",
        BadLine("bad_row", "[1]"),
        BadLine("bad_row", "{"),
        BadLine("bad_row", '{"text": 5}'),
    ]


def _read(path: Path) -> list[str | BadLine]:
    file = open_sentences(path)
    return [sentence for block in file.blocks() for sentence in file.read(*block)]


def test_lines_that_are_not_utf8_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffМы дома\r\n".encode() + b"\xff\xfe\nz\x00\n" + "У\u2028нас\n\n".encode() + "хлеб".encode())
    assert _read(path) == ["Мы дома", BadLine("not_utf8", "\ufffd\ufffd"), "z\x00", "У\u2028нас", "", "хлеб"]
    result = check_file(RU, open_sentences(path))
    assert result.outcomes == {"kept": 3, "not_utf8": 1, "foreign_letter": 1, "no_text": 1}


@pytest.mark.parametrize("name", ["a.txt", "a.tsv", "a.jsonl"])
def test_an_empty_file_has_no_sentences(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, *(["sentence"] if name == "a.tsv" else []))
    assert check_file(RU, open_sentences(path)).sentences == 0


def test_two_workers_and_small_blocks_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.tsv", "path\tsentence", *(f"{i}\t{SENTENCES[i * i % 7]}" for i in range(900)))
    whole = check_json(RU, check_file(RU, open_sentences(path), examples=5))
    monkeypatch.setattr(sentence_file, "BLOCK_BYTES", 4000)
    assert len(open_sentences(path).blocks()) > 5
    assert check_json(RU, check_file(RU, open_sentences(path), examples=5, workers=2)) == whole


def test_the_fate_of_characters() -> None:
    italian = load_language(find_language("it"))
    fates = {char: fate(italian, char) for char in "’-\u00ad.ñ²@"}
    assert fates == {
        "’": "'''",
        "-": "space",
        "\u00ad": "goes",
        ".": "space",
        "ñ": "rejected: foreign_letter",
        "²": "rejected: digits",
        "@": "rejected: symbol",
    }


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["check", "rv", "a.txt"], "no such language"),
        (["check", "x/rv.yaml", "a.txt"], "no such file"),
        (["check", "ru", "b.txt"], "no such file"),
        (["check", "ru", "no_sentence.tsv"], "no column sentence; the columns are: path, text"),
        (["new", "ru", "--text", "a.txt"], "is there already"),
        (["new", "Russian", "--text", "a.txt", "--out", "out.yaml"], "'Russian' is not a language code"),
        (["new", "xx", "--text", "digits.txt", "--out", "out.yaml"], "no letters in it"),
        (["new", "xx", "--text", "b.txt", "--out", "out.yaml"], "no such file"),
    ],
)
def test_bad_input_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str
) -> None:
    write(tmp_path / "a.txt", *SENTENCES)
    write(tmp_path / "digits.txt", "1", "2")
    write(tmp_path / "no_sentence.tsv", "path\ttext")
    monkeypatch.chdir(tmp_path)
    error = CliRunner().invoke(app, ["language", *arguments, "--workers", "1"]).exception
    assert isinstance(error, UserError)
    assert problem in str(error)
    assert error.fix
    assert not (tmp_path / "out.yaml").exists()


def test_the_commands_print_what_they_found(tmp_path: Path) -> None:
    text = write(tmp_path / "a.txt", *SENTENCES)
    command = [sys.executable, "-c", "from hlas.cli import main; main()", "language", "check", "ru", str(text)]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["outcomes"] == OUTCOMES
    shown = CliRunner().invoke(app, ["language", "check", "ru", str(text), "--examples", "0", "--workers", "1"])
    assert shown.exit_code == 0
    assert shown.output.startswith("Russian (ru, version 1): 7 sentences\n")


UKRAINIAN = [
    "Сьогодні п'ять дітей прийшли до школи.",
    "Бабуся спекла пиріг із вишнями, а дідусь заварив чай.",
    "Вiн поїхав на море, i ми чекаємо листа.",
    "Який чудовий день, ходімо до лісу!",
    "Будь-хто може прийти: ґанок відчинено щодня.",
    "Є ще хліб, сіль, цукор, яблука й жовта диня.",
    "Нас було 12 у хаті під горою.",
] * 40 + ["Він слухає Radio щоранку на кухні."]


def test_a_draft_counts_and_is_valid(tmp_path: Path) -> None:
    out = tmp_path / "uk.yaml"
    write_draft(out, "uk", "Ukrainian", write(tmp_path / "uk.txt", *UKRAINIAN))
    language = load_language(out)
    assert golden_failures(language, out) == []
    assert set("абвгґдеєжзиіїйклмнопрстухцчшщьюя'") - {"ю", "ф"} <= {*language.alphabet, "ю"}
    assert language.apostrophe == "inner"
    assert (language.digits.policy, language.digits.num2words) == ("hypotheses", "uk")
    assert language.lookalikes["i"] == "і"
    assert language.check("Вiн удома").text == "він удома"
    text = out.read_text(encoding="utf-8")
    assert "#   R" not in text
    assert "d U+0064 1" in text
    assert "reject: digits}  # 12" in text
    before = text
    with pytest.raises(UserError, match="is there already"):
        write_draft(out, "uk", "Ukrainian", tmp_path / "uk.txt")
    assert out.read_text(encoding="utf-8") == before


def test_a_draft_of_a_latin_text_has_no_lookalikes(tmp_path: Path) -> None:
    lines = ["Tohle je věta o koních.", "Ten pan je z Českého Brodu a umí to.", "Věta s jednou oвcí."] * 20
    out = tmp_path / "cs.yaml"
    write_draft(out, "cs", "Czech: a\nname", write(tmp_path / "cs.txt", *lines))
    language = load_language(out)
    assert language.lookalikes == {}
    assert language.name == "Czech: a name"
    assert language.apostrophe == "space"


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.text(max_size=60), max_size=12))
def test_the_draft_of_any_text_is_valid(tmp_path: Path, lines: list[str]) -> None:
    text, out = tmp_path / "any.txt", tmp_path / "xx.yaml"
    text.write_text("\n".join(lines), encoding="utf-8", newline="\n")
    out.unlink(missing_ok=True)
    try:
        write_draft(out, "xx", "Any", text)
    except UserError as error:
        assert error.problem == "no letters in it"
    else:
        assert golden_failures(load_language(out), out) == []
