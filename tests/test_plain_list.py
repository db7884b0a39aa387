"""Plain lists: every form gives the same rows, every line is a row or a counted bad one, every name is safe."""

import csv
import io
import json
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reader_kit
from hlas.errors import UserError
from hlas.manifests.readers.reading import audio_file, audio_files
from hlas.manifests.readers.tables import MAX_LINE_BYTES
from hlas.manifests.readers.utterance_names import MAX_NAME_BYTES, utterance_names
from reader_kit import bad, column, save

opened = partial(reader_kit.opened, "list")
rows = partial(reader_kit.rows, "list")


SENTENCES = ['Dobry "dźeń', "a, b; c", "''", "x"]
PATHS = ["a.wav", "sub/b.mp3", "c d.flac", "e.wav"]


def in_every_form(folder: Path) -> list[Path]:
    pairs = list(zip(PATHS, SENTENCES, strict=True))
    comma, semicolon = io.StringIO(newline=""), io.StringIO(newline="")
    csv.writer(comma).writerows([("path", "sentence"), *pairs])
    csv.writer(semicolon, delimiter=";").writerows([("file", "text"), *pairs])
    objects = [{"audio": path, "transcript": sentence} for path, sentence in pairs]
    return [
        save(folder / "a.tsv", "".join(f"{p}\t{s}\n" for p, s in [("path", "sentence"), *pairs])),
        save(
            folder / "crlf.tsv", "\ufeff" + "".join(f"{s}\t{p}\r\n" for p, s in [("Audio_FilePath", " Text "), *pairs])
        ),
        save(folder / "b.csv", comma.getvalue()),
        save(folder / "c.csv", "\ufeff" + semicolon.getvalue()),
        save(folder / "d.json", json.dumps(dict(pairs))),
        save(folder / "e.json", json.dumps(objects, indent=1)),
        save(folder / "f.jsonl", "".join(json.dumps(o, ensure_ascii=False) + "\n\n" for o in objects)),
    ]


def test_every_form_of_a_list_gives_the_same_rows(tmp_path: Path) -> None:
    for path in in_every_form(tmp_path):
        table = rows(path)
        assert column(table, "file", "clip", "sentence", "bad") == [
            (p, p, s, "") for p, s in zip(PATHS, SENTENCES, strict=True)
        ], path
        assert column(table, "utterance") == ["a", "b", "c d", "e"]


OPTIONAL = {
    "path": "a.wav",
    "sentence": "x",
    "speaker_id": "7",
    "sex": "other",
    "age": "30",
    "accent": "Budyšin",
    "lang": "hsb",
    "duration": "2.5",
    "offset": "1.25",
}


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl"])
def test_optional_columns(tmp_path: Path, suffix: str) -> None:
    delimiter = {"tsv": "\t", "csv": ","}.get(suffix)
    text = f"{delimiter.join(OPTIONAL)}\n{delimiter.join(OPTIONAL.values())}\n" if delimiter else ""
    as_numbers = OPTIONAL | {"speaker_id": 7, "age": 30, "duration": 2.5, "offset": 1.25}
    (row,) = rows(save(tmp_path / f"l.{suffix}", text or json.dumps(as_numbers)))
    wanted = ("speaker", "gender", "age", "accents", "locale", "duration_s", "offset_s", "utterance", "up_votes")
    assert column([row], *wanted) == [("7", "other", "30", "Budyšin", "hsb", 2.5, 1.25, "a-1250", None)]


@pytest.mark.parametrize("suffix", ["tsv", "csv"])
def test_numbers_that_are_none_make_a_bad_row(tmp_path: Path, suffix: str) -> None:
    values = ["", "1", "x", "nan", "inf", "-1", " 2 ", "1e3", "1e300", "1_0"]
    lines = ["path,text,duration[ms]", *(f"{i}.wav,t,{value}" for i, value in enumerate(values))]
    text = "\n".join(lines).replace(",", "\t" if suffix == "tsv" else ",")
    table = rows(save(tmp_path / f"l.{suffix}", text))
    assert list(bad(table)) == [4, 5, 6, 7, 10, 11]
    assert "duration_ms is 'x', not a number of at least 0" in bad(table)[4].replace('"', "'")
    assert column([row for row in table if not row["bad"]], "duration_s") == [None, 0.001, 0.002, 1.0]


def test_an_offset_that_no_recording_has_makes_a_bad_row(tmp_path: Path) -> None:
    table = rows(save(tmp_path / "l.jsonl", '{"path": "a.wav", "text": "x", "offset": 1e17}\n'))
    assert "offset_s is 1e+17" in bad(table)[1]


@pytest.mark.parametrize("suffix", ["tsv", "csv"])
def test_a_column_that_stands_twice_is_refused(tmp_path: Path, suffix: str) -> None:
    text = "path,text,notes,notes,text\na.wav,one,,,two\n".replace(",", "\t" if suffix == "tsv" else ",")
    with pytest.raises(UserError, match="the column text stands twice"):
        rows(save(tmp_path / f"l.{suffix}", text))


def test_a_lone_quote_costs_its_own_row_of_a_csv_and_nothing_of_a_tsv(tmp_path: Path) -> None:
    text = 'path,text\na.wav,"open\nb.wav,fine\nc.wav,"closed ""twice"""\nd.wav,"over\ntwo lines"\ne.wav,mid"dle\n'
    table = rows(save(tmp_path / "l.csv", text))
    assert column([row for row in table if not row["bad"]], "clip", "sentence") == [
        ("b.wav", "fine"),
        ("c.wav", 'closed "twice"'),
        ("e.wav", 'mid"dle'),
    ]
    assert list(bad(table)) == [2, 5, 6]
    assert bad(table)[2].startswith("not a line of CSV")
    plain = rows(save(tmp_path / "l.tsv", text.replace(",", "\t")))
    assert column(plain, "sentence")[:3] == ['"open', "fine", '"closed ""twice"""']
    assert bad(plain) == {6: "1 columns, the header has 2"}


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl"])
def test_lines_that_are_no_rows_are_counted(tmp_path: Path, suffix: str) -> None:
    good = {"tsv": b"a.wav\tgood", "csv": b"a.wav,good", "jsonl": b'{"path": "a.wav", "text": "good"}'}[suffix]
    header = {"tsv": b"path\ttext\n", "csv": b"path,text\n", "jsonl": b'{"path": "b.wav", "text": "b"}\n'}[suffix]
    content = header + b"\n".join([good, b"torn", b"\xff\xfe", b"\0", b"x" * (MAX_LINE_BYTES + 1), b"", good])
    table = rows(save(tmp_path / f"l.{suffix}", content))
    shift = 1 if suffix == "jsonl" else 0
    assert len(table) == 6 + shift
    assert list(bad(table)) == [3, 4, 5, 6]
    assert column(table[shift:], "sentence") == ["good", "", "", "", "", "good"]
    assert bad(table)[6] == f"longer than {MAX_LINE_BYTES} bytes"
    assert column(table, "clip")[shift + 1] == "line 3"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"path": "a.wav", "path": "b.wav", "text": "x"}', "a key stands twice: 'path'"),
        ('{"path": "a.wav"}', "no column for the transcript; there are: 'path'"),
        ('{"path": "a.wav", "text": 5}', "the transcript is no string"),
        ('{"path": null, "text": "x"}', "the audio path is no string"),
        ('{"path": "a.wav", "text": "x", "speaker": ["s"]}', r"speaker is .*, not a string"),
        ('{"path": "a.wav", "text": "x", "duration": true}', "duration_s is True, not a number"),
        ('{"path": "a.wav", "text": "x", "duration": NaN}', "duration_s is nan, not a number"),
        ('{"path": "a.wav", "text": "half \\ud800 pair"}', "holds half a surrogate pair"),
        ('["a.wav", "x"]', "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
    ],
)
def test_objects_that_are_no_rows(tmp_path: Path, line: str, why: str) -> None:
    (row,) = rows(save(tmp_path / "l.jsonl", line))
    assert row["file"] == ""
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(row["bad"])


def test_a_path_that_stands_twice_in_a_json_object_is_two_rows(tmp_path: Path) -> None:
    table = rows(save(tmp_path / "l.json", '{"a.wav": "one", "a.wav": "two", "b.wav": {"text": "x"}}'))
    assert column(table, "utterance", "sentence", "bad") == [
        ("a", "one", ""),
        ("a", "two", ""),
        ("", "", "the transcript is no string"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("l.tsv", "", "no column for the audio path and for the transcript; there are: none"),
        ("l.csv", "", "there are: none"),
        ("l.tsv", "a.wav\thello\n", "there are: 'a.wav', 'hello'"),
        ("l.csv", "path,words\n", "no column for the transcript; there are: 'path', 'words'"),
        ("l.tsv", b"\xff\xfep\0a\0", "there are: '.*'"),
        ("l.csv", b"\xff\xfep\0a\0", "not UTF-8"),
        ("l.json", "", "not JSON"),
        ("l.json", '{"path": "a.wav"}\n{"path": "b.wav"}', r"not JSON: Extra data[^$]*\.jsonl"),
        ("l.json", "5", "holds int, not rows"),
        ("l.json", b"\xff", "not JSON"),
        ("l.xlsx", "x", r"its name must end in one of: \.tsv"),
    ],
)
def test_what_is_no_list(tmp_path: Path, name: str, content: str | bytes, why: str) -> None:
    with pytest.raises(UserError) as caught:
        opened(save(tmp_path / name, content)).read("train")
    assert str(tmp_path / name) in caught.value.where
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(str(caught.value))


def test_a_folder_of_lists(tmp_path: Path) -> None:
    for name, sentence in (("train.tsv", "one"), ("Valid.tsv", "two"), ("test.tsv", "three"), ("train_old.tsv", "old")):
        save(tmp_path / name, f"path\ttext\n{sentence}.wav\t{sentence}\n")
    save(tmp_path / "notes.tsv", "nothing of use")
    corpus = opened(tmp_path)
    assert sorted(corpus.tables) == ["dev", "test", "train"]
    assert [corpus.read(table)["sentence"].to_list() for table in ("train", "dev", "test")] == [
        ["one"],
        ["two"],
        ["three"],
    ]
    save(tmp_path / "dev.csv", "path,text\n")
    with pytest.raises(UserError, match=r"several files for dev: Valid\.tsv, dev\.csv"):
        opened(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no list with train, dev or test in its name"):
        opened(tmp_path / "empty")
    with pytest.raises(UserError, match="no such list"):
        opened(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("path", "inside", "outside"),
    [
        ("a.wav", "a.wav", "a.wav"),
        ("./sub//a.wav", "sub/a.wav", "sub/a.wav"),
        ("ab ć-1.2.wav", "ab ć-1.2.wav", "ab ć-1.2.wav"),
        ("..a.wav", "..a.wav", "..a.wav"),
        ("../a.wav", "", "/data/a.wav"),
        ("/else/../a.wav", "", "/a.wav"),
        ("", "", ""),
        (".", "", ""),
        ("..", "", ""),
        ("sub/", "", ""),
        ("a\0.wav", "", ""),
        ("a\n.wav", "", ""),
        ("a\u200b.wav", "", ""),
        ("a\\b.wav", "", ""),
        ("ć" * 101 + ".wav", "", ""),
    ],
)
def test_names_of_audio_lead_somewhere_safe_or_nowhere(path: str, inside: str, outside: str) -> None:
    folder = Path("/data/lists")
    assert audio_file(path, folder, outside=False) == inside
    assert audio_file(path, folder, outside=True) == outside


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("ab1ć._-/ \\\0\n\u200b\u00a0"), max_size=12)))
def test_many_names_at_once_are_what_they_are_one_by_one(paths: list[str]) -> None:
    folder = Path("/data/lists")
    for outside in (True, False):
        found = audio_files(pl.Series(paths, dtype=pl.String), folder, outside=outside).to_list()
        assert found == [audio_file(path, folder, outside=outside) for path in paths]


def named(*parts: tuple[str, float | None]) -> list[str]:
    frame = pl.DataFrame(
        {"part": [f"{f}@{o}" for f, o in parts], "file": [f for f, _ in parts], "offset_s": [o for _, o in parts]},
        {"part": pl.String, "file": pl.String, "offset_s": pl.Float64},
    )
    names = dict(utterance_names(frame).iter_rows())
    return [names[part] for part in frame["part"]]


def test_utterances_are_named_by_as_many_folders_as_it_takes() -> None:
    assert named(("a.wav", None), ("x/b.wav", None), ("", None)) == ["a", "b", ""]
    assert named(("x/a.wav", None), ("/y/a.wav", None)) == ["x-a", "y-a"]
    assert named(("p/x/a.wav", None), ("q/x/a.wav", None), ("q/y/a.wav", None)) == ["p-x-a", "q-x-a", "y-a"]
    assert named(("a.wav", None), ("a.flac", None), ("a-2.wav", None)) == ["a", "a-3", "a-2"]
    assert named(("x-a.wav", None), ("x/a.wav", None), ("y/a.wav", None)) == ["x-a", "x-a-2", "y-a"]
    assert named(("a.wav", 0.0), ("a.wav", 1.2345), ("a.wav", None)) == ["a-0", "a-1234", "a"]
    assert named((".hidden.wav", None), ("...", None)) == ["hidden", "_"]


FOLDER = st.sampled_from(["a", "b", "a-b", "..x", "ć" * 90])


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(FOLDER, min_size=1, max_size=4), st.sampled_from([".wav", ".b.wav", ""]))))
def test_names_of_utterances_are_unique_and_fit_for_files(parts: list[tuple[list[str], str]]) -> None:
    files = list(dict.fromkeys("/".join(words) + suffix for words, suffix in parts))
    names = named(*((file, None) for file in files))
    assert len(set(names)) == len(files)
    for name in names:
        assert name and "/" not in name and not name.startswith(".") and len(name.encode()) <= MAX_NAME_BYTES + 10


def test_one_recording_in_two_tables_has_one_name(tmp_path: Path) -> None:
    save(tmp_path / "train.tsv", "path\ttext\nx/a.wav\tone\ny/a.wav\ttwo\nc.wav\tthree\n")
    save(tmp_path / "test.tsv", "path\ttext\ny/a.wav\ttwo\n")
    assert column(rows(tmp_path), "utterance") == ["x-a", "y-a", "c"]
    assert column(rows(tmp_path, "test"), "utterance") == ["y-a"]


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\0"))


@settings(deadline=None)
@given(st.lists(st.tuples(CELL, CELL), min_size=1))
def test_any_cell_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("list")
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows([("path", "text"), *pairs])
    objects = [{"path": path, "text": text} for path, text in pairs]
    forms = [
        save(folder / "l.csv", table.getvalue()),
        save(folder / "l.tsv", "".join(f"{p}\t{s}\n" for p, s in [("path", "text"), *pairs])),
        save(folder / "l.json", json.dumps(objects)),
        save(folder / "l.jsonl", "".join(json.dumps(o, ensure_ascii=False) + "\n" for o in objects)),
    ]
    for path in forms:
        found = rows(path)
        assert column(found, "sentence", "bad") == [(text, "") for _, text in pairs], path
        assert [row["clip"] for row in found] == [
            p or f"line {row['line']}" for (p, _), row in zip(pairs, found, strict=True)
        ]


PIECES = ["a.wav", "\t", ",", '"', "{", "}", '{"path": "b.wav", "text": "x"}', "\n", "\r", "\0", " ", "é", "\u2028"]
BYTES = st.lists(st.one_of(st.sampled_from(PIECES).map(str.encode), st.binary(max_size=3))).map(b"".join)


@settings(deadline=None)
@given(BYTES, st.sampled_from(["tsv", "csv", "jsonl"]))
def test_every_line_is_a_row_or_a_bad_one(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    header = {"tsv": b"path\ttext\n", "csv": b"path,text\n", "jsonl": b""}[suffix]
    path = save(tmp_path_factory.mktemp("list") / f"l.{suffix}", header + content)
    table = rows(path)
    lines = (header + content).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    full = [number for number, line in enumerate(lines, 1) if line.rstrip(b"\r")]
    assert column(table, "line") == full[1 if header else 0 :]
    assert all(row["file"] == row["utterance"] == "" for row in table if row["bad"])
