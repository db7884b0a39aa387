"""Readers of other corpora, from their files to manifests; test_plain_list has those of lists."""

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hlas.errors import UserError
from hlas.manifests.corpus import READERS
from hlas.manifests.rows import Row, read_manifest, write_rows
from hlas.manifests.stage import Params, run
from hlas.manifests.text import Language
from hlas.params import build_params
from hlas.stage import Input, Stage, Summary
from hlas.yamls import read_yaml
from reader_kit import bad, column, opened, rows, save

# LibriSpeech


def librispeech(folder: Path) -> Path:
    for part, name, chapter in (
        ("train-clean-100", "19-198-0000 NORTHANGER ABBEY\n19-198-0001 HAVE YOU 'EM\n", "19/198"),
        ("dev-clean", "84-121-0000 GO\n", "84/121"),
        ("dev-other", "116-288-0000 YES\n", "116/288"),
    ):
        ids = [line.split()[0] for line in name.splitlines()]
        save(folder / part / chapter / f"{ids[0].rpartition('-')[0]}.trans.txt", name)
        for utterance in ids:
            save(folder / part / chapter / f"{utterance}.flac", b"")
    save(
        folder / "SPEAKERS.TXT",
        "; ID | SEX | SUBSET\n19   | F | train-clean-100  | 25.1 | Kara\n84 | M | dev-clean | 8 | X\n",
    )
    return folder


def test_librispeech_parts_are_tables(tmp_path: Path) -> None:
    folder = librispeech(tmp_path / "LibriSpeech")
    corpus = opened("librispeech", tmp_path)
    assert set(corpus.tables) == {"train", "dev", "train-clean-100", "dev-clean", "dev-other"}
    table = rows("librispeech", folder)
    assert column(table, "utterance", "sentence", "speaker", "gender", "file", "line") == [
        ("19-198-0000", "NORTHANGER ABBEY", "19", "female", "train-clean-100/19/198/19-198-0000.flac", 1),
        ("19-198-0001", "HAVE YOU 'EM", "19", "female", "train-clean-100/19/198/19-198-0001.flac", 2),
    ]
    assert all((corpus.audio / row["file"]).is_file() for row in table)
    assert column(rows("librispeech", folder, "dev"), "speaker", "gender") == [("84", "male")]
    assert column(rows("librispeech", folder, "dev-other"), "speaker", "gender") == [("116", "")]


def test_librispeech_counts_what_does_not_fit(tmp_path: Path) -> None:
    folder = librispeech(tmp_path)
    chapter = folder / "dev-clean/84/121"
    save(chapter / "84-121.trans.txt", b"84-121-0000 GO\n\n84-121-0002\n../84-121-0003 UP\n nameless\n\xff\n")
    save(chapter / "84-121-0009.flac", b"")
    table = rows("librispeech", folder, "dev")
    assert column(table, "clip", "sentence", "bad") == [
        ("84-121-0000", "GO", ""),
        ("84-121-0002", "", ""),
        ("../84-121-0003", "UP", ""),
        ("84-121.trans.txt:5", "", "a line without a name"),
        ("84-121.trans.txt:6", "", "not UTF-8: invalid start byte at byte 1"),
        ("84-121-0009", "", "no line in 84-121.trans.txt"),
    ]
    assert table[2]["file"] == ""


def test_what_is_no_librispeech(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        opened("librispeech", tmp_path / "nothing")
    with pytest.raises(UserError, match="no part of LibriSpeech here"):
        opened("librispeech", tmp_path)


# LJSpeech


def test_ljspeech_takes_the_transcript_that_is_read_out(tmp_path: Path) -> None:
    lines = 'LJ001-0001|In 1910, "so|In nineteen ten, "so\nLJ001-0002|Plain|\nLJ001-0003|two\n../x|up|up\n|a|b\n'
    save(tmp_path / "LJSpeech-1.1" / "metadata.csv", lines)
    (tmp_path / "LJSpeech-1.1" / "wavs").mkdir()
    for path in (tmp_path, tmp_path / "LJSpeech-1.1"):
        table = rows("ljspeech", path)
        assert column(table, "utterance", "sentence", "file", "bad") == [
            ("LJ001-0001", 'In nineteen ten, "so', "LJ001-0001.wav", ""),
            ("LJ001-0002", "Plain", "LJ001-0002.wav", ""),
            ("", "", "", "2 columns, LJSpeech has 3"),
            ("", "up", "", ""),
            ("", "b", "", ""),
        ]
        assert {row["speaker"] for row in table if not row["bad"]} == {"LJ"}
        assert opened("ljspeech", path).audio == tmp_path / "LJSpeech-1.1" / "wavs"


def test_what_is_no_ljspeech(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no metadata\.csv here"):
        opened("ljspeech", tmp_path)
    save(tmp_path / "metadata.csv", "")
    with pytest.raises(UserError, match="no folder wavs/"):
        opened("ljspeech", tmp_path)


# NeMo manifests


def test_a_manifest_of_this_product_reads_back(tmp_path: Path) -> None:
    written = [
        Row("clips/a.wav", 1.5, "dobry dźeń", "Dobry dźeń.", "s1", "other", "teens", "x", "v", "hsb", "5f", "d"),
        Row("clips/b.wav", 2.0, "haj", offset=0.5),
    ]
    write_rows(tmp_path / "test.jsonl", written)
    save(tmp_path / "train_manifest.json", '{"audio_filepath": "/a/c.wav", "duration": 1, "text": "x"}\n')
    table = rows("nemo", tmp_path, "test")
    assert column(table, "file", "utterance", "sentence", "duration_s", "offset_s", "bad") == [
        ("clips/a.wav", "a", "Dobry dźeń.", 1.5, None, ""),
        ("clips/b.wav", "b-500", "haj", 2.0, 0.5, ""),
    ]
    first = Row("clips/a.wav", 1.5, "", "", *(table[0][name] for name in ("speaker", "gender", "age", "accents")))
    assert first == Row("clips/a.wav", 1.5, "", "", "s1", "other", "teens", "x")
    assert column(table[:1], "variant", "locale", "sentence_id", "domain") == [("v", "hsb", "5f", "d")]
    assert column(rows("nemo", tmp_path), "file", "clip", "utterance") == [("/a/c.wav", "/a/c.wav", "c")]


def test_a_manifest_counts_lines_that_are_no_rows(tmp_path: Path) -> None:
    lines = [
        '{"audio_filepath": "a.wav", "text": "x"}',
        "{",
        '{"path": "a.wav", "text": "x"}',
        '{"audio_filepath": "b.wav"}',
    ]
    table = rows("nemo", save(tmp_path / "m.json", "\n".join(lines)))
    assert list(bad(table)) == [2, 3, 4]
    assert bad(table)[3] == "no column for the audio path; there are: 'path', 'text'"


# lhotse


def test_cuts_are_parts_of_their_recordings(tmp_path: Path) -> None:
    import lhotse  # with torch: not for the other tests

    for name, channels in (("a.wav", 1), ("b.wav", 1), ("stereo.wav", 2)):
        soundfile.write(tmp_path / name, np.zeros((16000 * 4, channels)), 16000)
    a, b, stereo = (lhotse.Recording.from_file(tmp_path / name) for name in ("a.wav", "b.wav", "stereo.wav"))

    def said(
        recording: Any, text: str | None = "haj", start: float = 0.0, duration: float = 4.0, channel: int = 0
    ) -> Any:
        return lhotse.SupervisionSegment(
            f"{recording.id}-{start}", recording.id, start, duration, channel, text, "hsb", "s1", "other", {"age": 30}
        )

    def cut(id: str, recording: Any, *supervisions: Any, start: float = 0.0, duration: float = 4.0) -> Any:
        return lhotse.MonoCut(id, start, duration, 0, list(supervisions), recording=recording)

    command = a.with_path_prefix("x")
    command.sources[0].type, command.sources[0].source = "command", "touch owned"
    url = b.with_path_prefix("x")
    url.sources[0].type, url.sources[0].source = "url", "https://example.org/b.wav"
    mixed, faster = cut("mixed", a, said(a)).pad(6.0), cut("faster", a, said(a)).perturb_speed(1.1)
    multi = lhotse.MultiCut("multi", 0, 4, [0, 1], [said(stereo)], recording=stereo)
    cuts = [
        cut("whole", a, said(a)),
        cut("part", b, said(b, "mała", 1.0, 2.0), start=1.0, duration=2.0),
        cut("two", a, said(a), said(a, start=1.0, duration=1.0)),
        cut("none", a),
        cut("unwritten", a, said(a, None)),
        cut("left", stereo, said(stereo)),
        multi,
        mixed,
        cut("command", command, said(a)),
        faster,
        cut("url", url, said(b)),
    ]
    path = tmp_path / "cuts_train.jsonl.gz"
    lhotse.CutSet.from_cuts(cuts).to_file(path)
    with gzip.open(path, "at") as file:
        file.write('{"type": "MonoCut"}\n[]\n')
    table = rows("lhotse", tmp_path)
    good = [row for row in table if not row["bad"]]
    assert column(good, "clip", "file", "utterance", "sentence", "duration_s", "offset_s") == [
        ("whole", str(tmp_path / "a.wav"), "a", "haj", 4.0, None),
        ("part", str(tmp_path / "b.wav"), "b-1000", "mała", 2.0, 1.0),
    ]
    assert column(good[:1], "speaker", "gender", "age", "locale") == [("s1", "other", "30", "hsb")]
    reasons = {row["clip"]: row["bad"] for row in table if row["bad"]}
    for clip, why in {
        "two": "2 supervisions",
        "none": "0 supervisions",
        "unwritten": "no transcript",
        "left": "channel 0 of 2",
        "multi": "a MultiCut",
        mixed.id: "a MixedCut",
        faster.id: "transforms",
        "command": "audio that is no file: command",
        "url": "audio that is no file: url",
        "line 12": "not a cut: TypeError",
        "line 13": "not a cut",
    }.items():
        assert why in reasons[clip], clip
    assert len(table) == 13


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("start",), -3),
        (("start",), 1e17),
        (("duration",), "1"),
        (("duration",), float("nan")),
        (("recording", "duration"), None),
        (("recording", "sources", 0, "source"), 5),
        (("supervisions", 0, "gender"), ["other"]),
        (("supervisions", 0, "text"), "\ud800"),
    ],
)
def test_a_cut_with_values_of_another_kind_is_a_bad_row(
    tmp_path: Path, path: tuple[str | int, ...], value: Any
) -> None:
    said = {"id": "s", "recording_id": "r", "start": 0, "duration": 1.0, "channel": 0, "text": "haj", "speaker": 5}
    sources = [{"type": "file", "channels": [0], "source": "a.wav"}]
    recording = {"id": "r", "sources": sources, "sampling_rate": 16000, "num_samples": 16000, "duration": 1.0}
    cut: Any = {"id": 7, "start": 0, "duration": 1.0, "channel": 0, "supervisions": [said], "recording": recording}
    good = json.dumps(cut | {"type": "MonoCut"})
    inner = cut
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    lines = f"{good}\n{json.dumps(cut | {'type': 'MonoCut'})}\n"
    table = rows("lhotse", save(tmp_path / "cuts.jsonl", lines))
    assert column(table[:1], "clip", "file", "speaker", "bad") == [("7", "a.wav", "5", "")]
    assert list(bad(table)) == [2]


def test_a_torn_gzip_file_is_a_user_error(tmp_path: Path) -> None:
    path = save(tmp_path / "cuts.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 100)[:-10])
    with pytest.raises(UserError, match="not a whole gzip file"):
        opened("lhotse", path).read("train")


# the stage

LANGUAGE = Language("xx", "test", tuple("abcdefghijklmnopqrstuvwxyz"))


def tone(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(np.arange(int(16000 * seconds)) / 6), 16000)


def make(corpus: Path, out: Path, params: Params) -> Summary:
    out.mkdir()
    inputs = {"release": (Input(corpus),)}
    return run(params, Stage("manifests", "manifests", out, inputs, LANGUAGE, logging.getLogger("test"), 1))


def test_a_list_becomes_manifests(tmp_path: Path) -> None:
    tone(tmp_path / "elsewhere/long.wav", 6.0)
    for speaker in ("x", "y"):
        tone(tmp_path / f"list/{speaker}/1.wav", 1.0)
    path = str(tmp_path / "elsewhere/long.wav")
    train = [
        ("x/1.wav", "One!", "", ""),
        ("y/1.wav", "two", "", ""),
        (path, "three", "1.5", "2"),
        ("z.wav", "four", "", ""),
    ]
    save(
        tmp_path / "list/train.tsv",
        "path\ttext\toffset\tduration\n" + "".join("\t".join(cells) + "\n" for cells in train) + "torn\n",
    )
    save(
        tmp_path / "list/test.jsonl",
        json.dumps({"path": "../elsewhere/long.wav", "text": "five", "offset": 4, "duration": 1}),
    )
    out = tmp_path / "out"
    summary = make(tmp_path / "list", out, Params(reader="list"))
    assert summary["counts"] == {"train": 3, "test": 1, "rejected": 2}
    assert summary["splits"]["train"]["rejected"] == {"no_audio": 1, "bad_row": 1}
    made = read_manifest(out / "train.jsonl")
    assert [(row.audio_filepath, row.duration, row.text, row.source) for row in made] == [
        ("clips/x-1.wav", 1.0, "one", "list/train"),
        ("clips/y-1.wav", 1.0, "two", "list/train"),
        ("clips/long-1500.wav", 2.0, "three", "list/train"),
    ]
    (test,) = read_manifest(out / "test.jsonl")
    assert (test.audio_filepath, test.duration, test.offset) == ("clips/long-4000.wav", 1.0, None)


SPECS = Path(__file__).parents[1] / "manifests"


def spec_params(path: Path) -> Params:
    errors: list[UserError] = []
    built = build_params(Params, "manifests", read_yaml(path), (), {}, errors, "")
    assert built is not None and not errors, errors
    params: Params = built[0]
    return params


def test_every_reader_has_a_spec() -> None:
    specs = [path for path in SPECS.glob("*.yaml") if "reader" in read_yaml(path).data]
    assert {spec_params(path).reader for path in specs} == set(READERS)


def test_the_shipped_specs_make_splits_of_librispeech_and_ljspeech(tmp_path: Path) -> None:
    folder = librispeech(tmp_path / "LibriSpeech")
    for file in folder.rglob("*.flac"):
        tone(file, 1.0)
    made = make(folder, tmp_path / "libri", spec_params(SPECS / "librispeech.yaml"))
    assert made["counts"] == {"train": 2, "dev": 1, "rejected": 0}
    first = read_manifest(tmp_path / "libri" / "train.jsonl")[0]
    assert (first.text, first.speaker, first.audio_filepath) == ("northanger abbey", "19", "clips/19-198-0000.wav")
    letters = "abcdefghijklmnopqrstuvwxyz"
    save(tmp_path / "LJ/metadata.csv", "".join(f"LJ-{a}|3|{a} {a}\n" for a in letters))
    for letter in letters:
        tone(tmp_path / f"LJ/wavs/LJ-{letter}.wav", 1.0)
    made = make(tmp_path / "LJ", tmp_path / "lj", spec_params(SPECS / "ljspeech.yaml"))
    assert made["counts"] == {"train": 24, "dev": 1, "test": 1, "rejected": 0}
