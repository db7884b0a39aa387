"""Reading Common Voice releases of every version, from folders and archives, without losing a row."""

import io
import tarfile
from pathlib import Path

import pytest

from hlas.errors import UserError
from hlas.manifests.common_voice import BadRow, Clip, clip_file, open_release, read_durations, read_table

SPLITS = ("train.tsv", "dev.tsv", "test.tsv")
V17 = (
    "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale segment"
)
V8 = "client_id path sentence up_votes down_votes age gender accent locale segment"
V4 = "client_id path sentence up_votes down_votes age gender accent"


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


def clips(path: Path) -> list[Clip]:
    rows = list(read_table(path))
    assert all(isinstance(r, Clip) for r in rows)
    return [r for r in rows if isinstance(r, Clip)]


@pytest.mark.parametrize(("header", "accents"), [(V17, "accents"), (V8, "accent"), (V4, "accent")])
def test_columns_are_found_by_name_in_every_version(tmp_path: Path, header: str, accents: str) -> None:
    one = row("a.mp3", age="teens", gender="other", locale="hsb", sentence_id="5f", **{accents: "Budyšin"})
    (clip,) = clips(save(tmp_path / "train.tsv", table(header, one)))
    assert clip == Clip(
        2,
        "s1",
        "a.mp3",
        "dobry dźeń",
        "5f" if "sentence_id" in header else "",
        "teens",
        "other",
        "Budyšin",
        "hsb" if "locale" in header else "",
    )


def test_a_lone_quote_on_row_1_swallows_no_row(tmp_path: Path) -> None:
    rows = [row("a.mp3", '"Haj, rjekny'), row("b.mp3", 'ně"'), row("c.mp3", '""'), row("d.mp3", "x\"y'z")]
    found = clips(save(tmp_path / "train.tsv", table(V17, *rows)))
    assert [c.sentence for c in found] == [r["sentence"] for r in rows]


def test_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    text = "\ufeff" + table(V4, row("a.mp3", accent=""), row("b.mp3", accent="x"), end="\r\n")
    assert [(c.speaker, c.path, c.accents) for c in clips(save(tmp_path / "dev.tsv", text))] == [
        ("s1", "a.mp3", ""),
        ("s1", "b.mp3", "x"),
    ]


def test_only_a_line_feed_ends_a_row(tmp_path: Path) -> None:
    sentence = "one\u2028two\x85three\x0bfour\x1cfive"
    (clip,) = clips(save(tmp_path / "dev.tsv", table(V4, row("a.mp3", sentence))))
    assert clip.sentence == sentence


def test_a_row_of_another_width_is_a_bad_row_with_its_line(tmp_path: Path) -> None:
    text = (
        table(V8, row("a.mp3"))
        + "s1\tb.mp3\tshort\n\n"
        + table(V8, row("c.mp3", "with\ttab"), row("d.mp3")).split("\n", 1)[1]
    )
    rows = list(read_table(save(tmp_path / "dev.tsv", text)))
    assert [type(r) for r in rows] == [Clip, BadRow, BadRow, Clip]
    assert rows[1] == BadRow(3, "3 columns, the header has 10")
    assert rows[2] == BadRow(5, "11 columns, the header has 10")


@pytest.mark.parametrize("missing", ["path", "sentence"])
def test_a_missing_column_is_named_with_those_found(tmp_path: Path, missing: str) -> None:
    header = " ".join(name for name in V4.split() if name != missing)
    path = save(tmp_path / "train.tsv", table(header, row("a.mp3")))
    with pytest.raises(UserError, match=rf"no column {missing}; the columns are: client_id, .*gender, accent"):
        list(read_table(path))


def test_an_empty_table_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the columns are: none"):
        list(read_table(save(tmp_path / "train.tsv", "")))


def test_bytes_that_are_no_utf8_are_reported_with_their_line(tmp_path: Path) -> None:
    text = table(V4, row("a.mp3")).encode() + b"s1\tb.mp3\t\xe9t\xe9\t\t\t\t\t\n"
    with pytest.raises(UserError) as caught:
        list(read_table(save(tmp_path / "train.tsv", text)))
    assert caught.value.where.endswith("train.tsv:3")


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("a.mp3", "a.mp3"),
        ("a", "a.mp3"),
        ("sub/a.mp3", "sub/a.mp3"),
        ("", ""),
        ("../a.mp3", ""),
        ("sub/../../a.mp3", ""),
        ("/etc/a.mp3", ""),
        ("a\\b.mp3", ""),
        ("a\0.mp3", ""),
        ("a" * 300 + ".mp3", ""),
    ],
)
def test_names_of_clips_stay_below_their_folder(path: str, file: str) -> None:
    assert clip_file(path) == file


def test_a_locale_folder_or_the_folder_above_it(tmp_path: Path) -> None:
    save(tmp_path / "cv-corpus-22" / "hsb" / "test.tsv", table(V17))
    (tmp_path / "cv-corpus-22" / "hsb" / "clips").mkdir()
    (tmp_path / "cv-corpus-22" / "notes").mkdir()
    for given in (tmp_path / "cv-corpus-22", tmp_path / "cv-corpus-22" / "hsb"):
        assert open_release(given, tmp_path / "scratch", SPLITS).tables == tmp_path / "cv-corpus-22" / "hsb"


def test_several_locales_are_listed(tmp_path: Path) -> None:
    for locale in ("de", "hsb"):
        save(tmp_path / locale / "train.tsv", table(V17))
    with pytest.raises(UserError, match="several locales here: de, hsb"):
        open_release(tmp_path, tmp_path / "scratch", SPLITS)


def test_what_is_no_release(tmp_path: Path) -> None:
    save(tmp_path / "other.tsv", table(V17))
    with pytest.raises(UserError, match=r"none of train\.tsv, dev\.tsv, test\.tsv"):
        open_release(tmp_path, tmp_path / "scratch", SPLITS)
    with pytest.raises(UserError, match="no such release"):
        open_release(tmp_path / "nothing", tmp_path / "scratch", SPLITS)
    save(tmp_path / "hsb" / "train.tsv", table(V17))
    with pytest.raises(UserError, match="no folder clips/"):
        open_release(tmp_path, tmp_path / "scratch", SPLITS)


def test_durations_of_wanted_clips(tmp_path: Path) -> None:
    save(tmp_path / "train.tsv", table(V17))
    (tmp_path / "clips").mkdir()
    release = open_release(tmp_path, tmp_path / "scratch", SPLITS)
    assert read_durations(release, {"a.mp3"}) == {}
    save(tmp_path / "clip_durations.tsv", "clip\tduration[ms]\na.mp3\t1500\nb.mp3\t2000\nc.mp3\t\n")
    assert read_durations(release, {"a.mp3", "c.mp3"}) == {"a.mp3": 1.5}


def archive(path: Path, *members: tuple[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


TRAIN = ("./cv/hsb/train.tsv", table(V17, row("a.mp3")).encode())
CLIP = ("./cv/hsb/clips/a.mp3", b"sound of a")


def test_an_archive_gives_what_a_folder_gives(tmp_path: Path) -> None:
    other = ("./cv/hsb/clips/unwanted.mp3", b"x" * 5000)
    path = archive(tmp_path / "cv.tar.gz", CLIP, other, TRAIN, ("./cv/hsb/clips/b.mp3", b"sound of b"))
    release = open_release(path, tmp_path / "scratch", SPLITS)
    table_path = release.table("train.tsv")
    assert table_path and [c.path for c in clips(table_path)] == ["a.mp3"]
    assert release.table("dev.tsv") is None
    release.fetch(["a.mp3", "b.mp3", "not_there.mp3"])
    assert {f.name: f.read_bytes() for f in release.clips.iterdir()} == {"a.mp3": b"sound of a", "b.mp3": b"sound of b"}


def test_a_killed_run_unpacks_only_what_is_not_there(tmp_path: Path) -> None:
    path = archive(tmp_path / "cv.tar.gz", CLIP, TRAIN)
    open_release(path, tmp_path / "scratch", SPLITS).fetch(["a.mp3"])
    path.write_bytes(b"")  # whoever reads the archive again fails
    again = open_release(path, tmp_path / "scratch", SPLITS)
    again.fetch(["a.mp3"])
    assert (again.clips / "a.mp3").read_bytes() == b"sound of a"
    with pytest.raises(UserError, match="not a whole tar archive"):
        again.fetch(["a.mp3", "b.mp3"])


def test_tables_of_another_folder_do_not_mix_in(tmp_path: Path) -> None:
    stray = ("backup/clip_durations.tsv", b"clip\tduration[ms]\na.mp3\t1\n")
    durations = ("./cv/hsb/clip_durations.tsv", b"clip\tduration[ms]\na.mp3\t2000\n")
    release = open_release(archive(tmp_path / "cv.tar.gz", stray, durations, TRAIN), tmp_path / "scratch", SPLITS)
    assert read_durations(release, {"a.mp3"}) == {"a.mp3": 2.0}


def link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("cv/hsb/clips/a.mp3")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    "member",
    [
        ("/cv/hsb/clips/a.mp3", b"x"),
        ("cv/../../a.mp3", b"x"),
        ("", link(tarfile.SYMTYPE)),
        ("", link(tarfile.LNKTYPE)),
        ("", link(tarfile.CHRTYPE)),
    ],
    ids=["absolute", "dots", "symlink", "hardlink", "device"],
)
def test_hostile_members_are_refused(tmp_path: Path, member: tuple[str, bytes | tarfile.TarInfo]) -> None:
    path = archive(tmp_path / "cv.tar.gz", member, TRAIN)
    with pytest.raises(UserError, match="that no release has"):
        open_release(path, tmp_path / "in" / "scratch", SPLITS)
    assert not list(tmp_path.rglob("a.mp3"))


def test_a_cut_archive_is_a_user_error(tmp_path: Path) -> None:
    noise = bytes(i * i % 251 for i in range(200_000))
    path = archive(tmp_path / "cv.tar.gz", TRAIN, ("cv/hsb/clips/a.mp3", noise))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(UserError, match="not a whole tar archive"):
        open_release(path, tmp_path / "scratch", SPLITS)
    with pytest.raises(UserError, match="not a whole tar archive"):
        open_release(save(tmp_path / "notes.txt", "not a tar"), tmp_path / "scratch2", SPLITS)


def test_an_archive_of_several_locales_or_none(tmp_path: Path) -> None:
    two = archive(tmp_path / "two.tar.gz", TRAIN, ("cv/de/dev.tsv", table(V17).encode()))
    with pytest.raises(UserError, match="there: cv/de, cv/hsb"):
        open_release(two, tmp_path / "scratch", SPLITS)
    with pytest.raises(UserError, match="there: none"):
        open_release(archive(tmp_path / "none.tar.gz", CLIP), tmp_path / "scratch2", SPLITS)
