"""Reading Common Voice releases of every version without losing a row."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlas.errors import UserError
from hlas.manifests.corpus import schema
from hlas.manifests.readers.common_voice import clip_file, clip_names, open_corpus

VERSIONS = {  # columns, in their order, of the releases that a version stands for
    "1": "client_id path sentence up_votes down_votes age gender accent",
    "5": "client_id path sentence up_votes down_votes age gender accent locale segment",
    "9": "client_id path sentence up_votes down_votes age gender accents locale segment",
    "13": "client_id path sentence up_votes down_votes age gender accents variant locale segment",
    "17": "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale "
    "segment",
}
V17 = VERSIONS["17"]


def table(header: str, *rows: dict[str, str], end: str = "\n") -> str:
    names = header.split(" ")
    lines = ["\t".join(names), *("\t".join(row.get(name, "") for name in names) for row in rows)]
    return "".join(line + end for line in lines)


def row(path: str, sentence: str = "dobry dźeń", **more: str) -> dict[str, str]:
    return {"client_id": "s1", "path": path, "sentence": sentence, **more}


def save(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(folder: Path, text: str, name: str = "train") -> list[dict[str, object]]:
    (folder / "clips").mkdir(exist_ok=True)
    save(folder / f"{name}.tsv", text)
    rows = open_corpus(folder, folder / "scratch").read(name)
    assert dict(rows.schema) == schema()
    return list(rows.iter_rows(named=True))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_columns_are_found_by_name_in_every_version(tmp_path: Path, version: str, end: str) -> None:
    header = VERSIONS[version]
    accents = "accents" if "accents" in header else "accent"
    written = row(
        "a.mp3",
        age="teens",
        gender="other",
        locale="hsb",
        sentence_id="5f",
        sentence_domain="general,finance",
        variant="hsb-x",
        segment="Benchmark",
        up_votes="3",
        down_votes="1",
        **{accents: "Budyšin"},
    )
    (found,) = read(tmp_path, ("\ufeff" if end == "\r\n" else "") + table(header, written, end=end))
    here = header.split()
    assert found == {
        "clip": "a.mp3",
        "file": "a.mp3",
        "utterance": "a",
        "sentence": "dobry dźeń",
        "speaker": "s1",
        "gender": "other",
        "age": "teens",
        "accents": "Budyšin",
        "variant": "hsb-x" if "variant" in here else "",
        "locale": "hsb" if "locale" in here else "",
        "sentence_id": "5f" if "sentence_id" in here else "",
        "domain": "general,finance" if "sentence_domain" in here else "",
        "segment": "Benchmark" if "segment" in here else "",
        "bad": "",
        "line": 2,
        "up_votes": 3,
        "down_votes": 1,
        "duration_s": None,
        "offset_s": None,
    }


def test_votes_that_are_no_numbers_are_unknown(tmp_path: Path) -> None:
    rows = read(tmp_path, table(V17, row("a.mp3", up_votes="two"), row("b.mp3", up_votes="0", down_votes="-")))
    assert [(r["up_votes"], r["down_votes"]) for r in rows] == [(None, None), (0, None)]


@pytest.mark.parametrize("missing", ["path", "sentence"])
def test_a_missing_column_is_named_with_those_found(tmp_path: Path, missing: str) -> None:
    header = " ".join(name for name in VERSIONS["1"].split() if name != missing)
    with pytest.raises(UserError, match=rf"no column {missing}; the columns are: client_id, .*gender, accent"):
        read(tmp_path, table(header, row("a.mp3")))


PATHS = [
    ("a.mp3", "a.mp3"),
    ("a", "a.mp3"),
    ("sub/a.mp3", "sub/a.mp3"),
    ("./a.mp3", "a.mp3"),
    ("", ""),
    ("../a.mp3", ""),
    ("sub/../../a.mp3", ""),
    ("/etc/a.mp3", ""),
    ("a\\b.mp3", ""),
    ("a\0.mp3", ""),
    ("a" * 300 + ".mp3", ""),
]


@pytest.mark.parametrize(("path", "file"), PATHS)
def test_names_of_clips_stay_below_their_folder(path: str, file: str) -> None:
    assert clip_file(path) == file


@pytest.mark.parametrize("path", ["a" * 201 + "/x.mp3", "é" * 101 + ".mp3", "a/" * 600 + "x.mp3"])
def test_a_name_that_no_file_system_takes_names_no_file(path: str) -> None:
    assert clip_file(path) == ""


@given(st.lists(st.one_of(st.text("ab./\\-é\0", max_size=9), st.sampled_from([path for path, _ in PATHS])), max_size=6))
def test_names_of_a_column_are_the_names_one_by_one(paths: list[str]) -> None:
    files, utterances = clip_names(pl.Series("clip", paths, pl.String))
    assert files.to_list() == [clip_file(path) for path in paths]
    assert utterances.to_list() == [Path(clip_file(path)).stem for path in paths]


@pytest.mark.parametrize("name", ["cv-corpus-22.0-2025-06-20", "cv-corpus-7.0-singleword"])
def test_a_locale_folder_or_the_folder_above_it(tmp_path: Path, name: str) -> None:
    save(tmp_path / name / "hsb" / "test.tsv", table(V17))
    (tmp_path / name / "hsb" / "clips").mkdir()
    (tmp_path / name / "notes").mkdir()
    for folder in (tmp_path / name, tmp_path / name / "hsb"):
        corpus = open_corpus(folder, tmp_path / "scratch")
        assert (corpus.audio, list(corpus.tables)) == (tmp_path / name / "hsb" / "clips", ["test"])


def test_a_delta_release_has_the_other_tables(tmp_path: Path) -> None:
    for name in ("validated", "other", "invalidated", "reported", "validated_sentences"):
        save(tmp_path / f"{name}.tsv", table(V17))
    (tmp_path / "clips").mkdir()
    assert list(open_corpus(tmp_path, tmp_path / "scratch").tables) == ["validated", "other", "invalidated"]


def test_several_locales_are_listed(tmp_path: Path) -> None:
    for locale in ("de", "hsb"):
        save(tmp_path / locale / "train.tsv", table(V17))
    with pytest.raises(UserError, match="several locales here: de, hsb"):
        open_corpus(tmp_path, tmp_path / "scratch")


def test_what_is_no_release(tmp_path: Path) -> None:
    save(tmp_path / "notes.tsv", table(V17))
    with pytest.raises(UserError, match=r"none of train\.tsv, dev\.tsv, test\.tsv"):
        open_corpus(tmp_path, tmp_path / "scratch")
    with pytest.raises(UserError, match="no such release"):
        open_corpus(tmp_path / "nothing", tmp_path / "scratch")
    save(tmp_path / "hsb" / "train.tsv", table(V17))
    with pytest.raises(UserError, match="no folder clips/"):
        open_corpus(tmp_path, tmp_path / "scratch")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("clip_durations.tsv", "clip\tduration[ms]\na.mp3\t1500\nb.mp3\t2000\nc.mp3\tnan\nx.mp3\t1e300\na.mp3\t1600\n"),
        ("clip_durations.tsv", "filename\tduration[ms]\r\nclips/a.mp3\t1600\r\n"),
        ("times.txt", "a.mp3\t1600\nb.mp3\t2000\n"),
        ("times.txt", "path\tduration\na\t1600\n"),
    ],
    ids=["since 16.1", "other column name", "14, without a header", "14, with one"],
)
def test_stated_durations(tmp_path: Path, name: str, text: str) -> None:
    save(tmp_path / name, text)
    rows = read(tmp_path, table(V17, row("a.mp3"), row("c.mp3"), row("x.mp3")))
    assert [r["duration_s"] for r in rows] == [1.6, None, None]
