"""Spontaneous Speech releases: one table, parts by a column, from the folder and from the archive."""

import tarfile
from pathlib import Path

import pytest

from hlas.errors import UserError
from hlas.manifests.readers.spontaneous_speech import SpontaneousSpeech, open_corpus

V1 = "client_id audio_id audio_file duration_ms prompt_id prompt transcription votes language split"
V3 = (
    "client_id audio_id audio_file duration_ms prompt_id prompt transcription votes age gender accents variant "
    "language prompt_upvotes prompt_reports is_edited split char_per_sec quality_tags"
)
ROWS = [
    {
        "audio_file": "spontaneous-speech-hsb-1.mp3",
        "duration_ms": "4100",
        "transcription": "Haj [noise]",
        "split": "dev",
    },
    {"audio_file": "spontaneous-speech-hsb-2.mp3", "duration_ms": "", "transcription": "Ně", "split": "Train "},
    {"audio_file": "../x.mp3", "duration_ms": "0", "transcription": "Što?", "split": ""},
    {"audio_file": "spontaneous-speech-hsb-4.mp3", "transcription": "", "split": "unassigned", "age": "teens"},
]


def release(folder: Path, header: str) -> Path:
    (folder / "audios").mkdir(parents=True)
    names = header.split()
    lines = ["\t".join({"client_id": "s1", **row}.get(name, "") for name in names) for row in ROWS]
    (folder / "ss-corpus-hsb.tsv").write_text("\n".join(["\t".join(names), *lines, "torn\tline", ""]), encoding="utf-8")
    (folder / "ss-reported-audios-hsb.tsv").write_text("client_id\n")
    (folder / "audios" / "spontaneous-speech-hsb-1.mp3").write_bytes(b"sound")
    return folder


def summary(corpus: SpontaneousSpeech) -> dict[str, list[tuple[str, str, float | None, str]]]:
    columns = ("utterance", "sentence", "duration_s", "bad")
    return {table: corpus.read(table).select(columns).rows() for table in sorted(corpus.tables)}


@pytest.mark.parametrize("header", [V1, V3], ids=["1.0", "3.0"])
def test_the_parts_of_the_table(tmp_path: Path, header: str) -> None:
    corpus = open_corpus(release(tmp_path / "sps-corpus-hsb", header), tmp_path / "scratch")
    assert summary(corpus) == {
        "dev": [("spontaneous-speech-hsb-1", "Haj [noise]", 4.1, "")],
        "train": [
            ("spontaneous-speech-hsb-2", "Ně", None, ""),
            ("", "", None, f"2 columns, the header has {len(header.split())}"),
        ],
        "unassigned": [("", "Što?", None, ""), ("spontaneous-speech-hsb-4", "", None, "")],
    }
    last = corpus.read("unassigned").row(1, named=True)
    assert (last["locale"], last["speaker"], last["age"]) == ("hsb", "s1", "teens" if header == V3 else "")


def test_the_archive_gives_the_same(tmp_path: Path) -> None:
    folder = release(tmp_path / "sps-corpus-hsb", V3)
    with tarfile.open(tmp_path / "sps.tar.gz", "w:gz") as file:
        file.add(folder, "sps-corpus-hsb")
    corpus = open_corpus(tmp_path / "sps.tar.gz", tmp_path / "scratch")
    assert summary(corpus) == summary(open_corpus(folder, tmp_path / "scratch2"))
    corpus.fetch(["spontaneous-speech-hsb-1.mp3"])
    assert (corpus.audio / "spontaneous-speech-hsb-1.mp3").read_bytes() == b"sound"


def test_two_locales_in_one_folder_are_refused(tmp_path: Path) -> None:
    folder = release(tmp_path / "sps", V1)
    (folder / "ss-corpus-de.tsv").write_text((folder / "ss-corpus-hsb.tsv").read_text(encoding="utf-8"))
    with pytest.raises(UserError, match=r"several locales here: ss-corpus-de.tsv, ss-corpus-hsb.tsv"):
        open_corpus(folder, tmp_path / "scratch")


@pytest.mark.parametrize("milliseconds", ["NaN", "inf", "-5", "1e300"])
def test_a_duration_that_is_none_is_not_known(tmp_path: Path, milliseconds: str) -> None:
    folder = release(tmp_path / "sps-corpus-hsb", V3)
    table = folder / "ss-corpus-hsb.tsv"
    text = table.read_text(encoding="utf-8")
    assert text.count("\t4100\t") == 1
    table.write_text(text.replace("\t4100\t", f"\t{milliseconds}\t"), encoding="utf-8")
    assert open_corpus(folder, tmp_path / "scratch").read("dev")["duration_s"].to_list() == [None]
