"""Tab-separated tables: every line is a row or a bad row, whatever bytes it holds."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hlas.errors import UserError
from hlas.manifests.readers import tables
from hlas.manifests.readers.tables import MAX_LINE_BYTES, Column, first_line, read_tsv

COLUMNS = {"a": Column(("a",), needed=True), "b": Column(("new", "old")), "c": Column(("c",))}
Rows = list[tuple[int, str, str, str, str]]  # line, a, b, c, bad


def read(path: Path, data: bytes | str) -> Rows:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_tsv(path, COLUMNS).rows()


def reference(data: bytes) -> Rows:
    """The same by the plainest means."""
    out: Rows = []
    lines = data.split(b"\n")
    header = lines[0].decode().rstrip("\r").split("\t")
    places = [next((header.index(n) for n in names if n in header), None) for names, _ in COLUMNS.values()]
    for number, raw in enumerate(lines[1:], 2):
        line = raw.rstrip(b"\r")
        try:
            cells = line.decode().split("\t")
            whole = len(cells) == len(header) and b"\0" not in line
        except UnicodeDecodeError:
            cells, whole = [], False
        if line and whole:
            a, b, c = ("" if place is None else cells[place] for place in places)
            out.append((number, a, b, c, ""))
        elif line:
            out.append((number, "", "", "", "bad"))
    return out


def marked(rows: Rows) -> Rows:
    return [(line, a, b, c, "bad" if bad else "") for line, a, b, c, bad in rows]


CELL = st.text(st.characters(blacklist_characters="\t\n\r", codec="utf-8"), max_size=8)
GOOD = st.lists(CELL, min_size=3, max_size=3).map("\t".join).map(str.encode)
LINE = st.one_of(GOOD, GOOD, st.binary(max_size=24), st.sampled_from([b"", b"\r", b'"\t"\t', b"\t\t", b"# \t'\t,"]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(LINE, max_size=12),
    header=st.sampled_from([b"a\tnew\tx", b"old\ta\tc", b"x\ta\tnew"]),
    end=st.sampled_from([b"\n", b"\r\n"]),
    block=st.sampled_from([16, 64, 1 << 20]),
)
def test_every_line_is_a_row_or_a_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[bytes], header: bytes, end: bytes, block: int
) -> None:
    monkeypatch.setattr(tables, "_BLOCK_BYTES", block)
    data = end.join([header, *lines])
    assert marked(read(tmp_path / "t.tsv", data)) == reference(data)


def test_what_is_wrong_with_a_line_is_said(tmp_path: Path) -> None:
    data = b"a\tc\n1\t2\nshort\n\xe9t\xe9\t2\nx\0\t2\n" + b"x" * (MAX_LINE_BYTES + 1) + b"\t2\ny\t" + b"z" * 99
    rows = read(tmp_path / "t.tsv", data)
    assert [(line, a, bad) for line, a, _, _, bad in rows] == [
        (2, "1", ""),
        (3, "", "1 columns, the header has 2"),
        (4, "", "not UTF-8: invalid continuation byte at byte 1"),
        (5, "", "holds a NUL byte"),
        (6, "", f"longer than {MAX_LINE_BYTES} bytes"),
        (7, "y", ""),
    ]


@pytest.mark.parametrize("last", [b"", b"\nd\te"])
def test_a_line_of_100_mb_is_one_bad_row(tmp_path: Path, last: bytes) -> None:
    path = tmp_path / "t.tsv"
    with path.open("wb") as file:
        file.write(b"a\tc\n1\t2\n")
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(last)
    found = [(line, a, bool(bad)) for line, a, _, _, bad in read_tsv(path, COLUMNS).rows()]
    assert found == [(2, "1", False), (3, "", True), *([(4, "d", False)] if last else [])]


def test_a_lone_quote_on_row_1_swallows_no_row(tmp_path: Path) -> None:
    rows = read(tmp_path / "t.tsv", 'a\tc\n"1\tx\n2"\t""\n3\t"\'\n')
    assert [(a, c) for _, a, _, c, _ in rows] == [('"1', "x"), ('2"', '""'), ("3", "\"'")]


def test_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    assert read(tmp_path / "t.tsv", "\ufeffa\told\r\n1\t2\r\n") == [(2, "1", "2", "", "")]


def test_only_a_line_feed_ends_a_row(tmp_path: Path) -> None:
    value = "one\u2028two\x85three\x0bfour\x1cfive\rsix"
    assert read(tmp_path / "t.tsv", f"a\tc\n1\t{value}\n") == [(2, "1", "", value, "")]


def test_blank_lines_come_before_a_header_too(tmp_path: Path) -> None:
    assert read(tmp_path / "t.tsv", "\n\r\na\tc\n\n1\t2\n") == [(5, "1", "", "2", "")]
    assert first_line(tmp_path / "t.tsv") == "a\tc"


def test_a_table_without_a_header_line(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("1\t2\n3\t4\n")
    assert read_tsv(tmp_path / "t.tsv", COLUMNS, ("a", "c")).rows() == [(1, "1", "", "2", ""), (2, "3", "", "4", "")]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no column a; the columns are: none"),
        (b"\n\n", "no column a; the columns are: none"),
        (b"b\tc\n1\t2\n", "no column a; the columns are: b, c"),
        (b"\xff\ta\n", "not UTF-8"),
        (b"a" * (MAX_LINE_BYTES + 1), f"longer than {MAX_LINE_BYTES} bytes"),
    ],
)
def test_what_is_no_table_is_a_user_error(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        read(tmp_path / "t.tsv", data)
    with pytest.raises(UserError, match="cannot be read"):
        read_tsv(tmp_path, COLUMNS)
