"""LM text: what goes in, what is kept out or counted twice, the vocabulary, in memory that does not grow."""

import gzip
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hlas import line_blocks
from hlas.errors import UserError
from hlas.lm import vocabulary
from hlas.lm.repeats import Repeats
from hlas.lm.text import Source, sentences_of, write_sentences
from hlas.manifests.rows import Row, write_rows
from hlas.manifests.text import Language

LANGUAGE = Language("xx", "Test", tuple("abcdefghijklmnopqrstuvwxyzäöü'"), apostrophe="inner")


def test_every_line_is_kept_or_counted(tmp_path: Path) -> None:
    source = tmp_path / "text.txt"
    source.write_bytes("\ufeffEin Apfel.\r\n\nein apfel\nдом\ntwo words\u2028in one\n  Ärger \n7 up".encode())
    out = tmp_path / "out"
    (counts,) = write_sentences(out, [Source(source, "text")], {"ärger"}, LANGUAGE)
    assert out.read_text(encoding="utf-8") == "ein apfel\ntwo words in one\n"
    assert (counts.read, counts.kept, counts.words, counts.removed, counts.duplicates) == (7, 2, 6, 1, 1)
    assert counts.rejected == {"no_text": 1, "foreign_letter": 1, "digits": 1}
    assert counts.read == counts.kept + counts.removed + counts.duplicates + sum(counts.rejected.values())


def test_duplicates_can_stay(tmp_path: Path) -> None:
    source = tmp_path / "text.txt"
    source.write_text("a\nb\na\n")
    write_sentences(tmp_path / "out", [Source(source, "text")], set(), LANGUAGE, dedupe=False)
    assert (tmp_path / "out").read_text() == "a\nb\na\n"


@pytest.mark.parametrize("block_bytes", [4, 1 << 20])
def test_a_line_that_is_not_utf8_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    monkeypatch.setattr(line_blocks, "BLOCK_BYTES", block_bytes)
    source = tmp_path / "latin1.txt"
    source.write_bytes(b"one\ntwo\nthree\nf\xfcnf\nsix\n")
    with pytest.raises(UserError, match="not UTF-8") as error:
        write_sentences(tmp_path / "out", [Source(source, "text")], set(), LANGUAGE)
    assert error.value.where == f"{source}:4"
    assert not (tmp_path / "out").exists()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["", "ab", "ä", "xyz xyz"]), max_size=12), st.integers(1, 9))
def test_blocks_do_not_change_the_sentences(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], size: int
) -> None:
    source = tmp_path_factory.mktemp("blocks") / "text.txt"
    source.write_text("\n".join(lines), encoding="utf-8")
    ranges = list(line_blocks.line_ranges(source, size))
    blocks = line_blocks.BlockChecker(source, LANGUAGE)(ranges)
    assert [s for b in blocks for s in b.accepted] == [line for line in lines if line]
    assert sum(b.lines for b in blocks) == source.read_text(encoding="utf-8").count("\n") + bool(lines and lines[-1])
    assert [start for start, _ in ranges[1:]] == [stop for _, stop in ranges[:-1]]


def test_processes_read_what_one_process_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_blocks, "BLOCK_BYTES", 100)
    source = tmp_path / "text.txt"
    source.write_text("".join(f"word {chr(97 + i % 26)} {chr(97 + i // 26)}\n" for i in range(60)) + "7\n")
    results = []
    for workers in (1, 2):
        (counts,) = write_sentences(tmp_path / "out", [Source(source, "text")], set(), LANGUAGE, workers=workers)
        results.append(((tmp_path / "out").read_text(), counts.to_json()))
    assert results[0] == results[1]
    assert results[0][1]["kept"] == 60


def test_a_compressed_file_is_read_as_a_plain_one(tmp_path: Path) -> None:
    source = tmp_path / "text.txt.gz"
    source.write_bytes(gzip.compress(b"Ein Apfel.\n7\nein apfel\n"))
    (counts,) = write_sentences(tmp_path / "out", [Source(source, "text")], set(), LANGUAGE)
    assert (tmp_path / "out").read_text() == "ein apfel\n"
    assert (counts.read, counts.kept, counts.duplicates, counts.rejected) == (3, 1, 1, {"digits": 1})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "text.txt.gz"]
    source.write_bytes(source.read_bytes()[:-6])
    with pytest.raises(UserError, match=r"not a whole \.gz file") as error:
        write_sentences(tmp_path / "out", [Source(source, "text")], set(), LANGUAGE)
    assert error.value.where == str(source)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "a b", "c", "d e"]), max_size=6), max_size=5))
def test_repeats_are_those_that_a_set_finds(tmp_path_factory: pytest.TempPathFactory, blocks: list[list[str]]) -> None:
    repeats = Repeats(tmp_path_factory.mktemp("repeats"))
    seen: set[str] = set()
    expected = []
    for block in blocks:
        repeats.add(block)
        for sentence in block:
            expected.append(sentence in seen)
            seen.add(sentence)
    assert list(repeats.flags()) == expected


def test_repeats_are_counted_for_the_later_source(tmp_path: Path) -> None:
    for name, lines in (("one", "a b\nc\na b\n"), ("two", "c\nd e f\na b\n")):
        (tmp_path / name).write_text(lines)
    one, two = write_sentences(
        tmp_path / "out", [Source(tmp_path / "one", "one"), Source(tmp_path / "two", "two")], set(), LANGUAGE
    )
    assert (tmp_path / "out").read_text() == "a b\nc\nd e f\n"
    assert (one.kept, one.duplicates, one.words) == (2, 1, 3) and (two.kept, two.duplicates, two.words) == (1, 2, 3)


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    """Twenty times the sentences, no more memory: in a process of its own, whose peak is read at its end."""
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from hlas import line_blocks\n"
        "from hlas.lm.text import Source, write_sentences\n"
        "from hlas.manifests.text import Language\n"
        "line_blocks.BLOCK_BYTES = 1 << 16\n"
        "language = Language('xx', 'Test', tuple('abcdefghij'))\n"
        "source = Path(sys.argv[1])\n"
        "write_sentences(source.with_suffix('.out'), [Source(source, 'text')], set(), language)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = []
    for name, count in (("small", 5_000), ("large", 100_000)):
        source = tmp_path / name
        with source.open("w") as file:
            for i in range(count):
                digits = "".join("abcdefghij"[int(d)] for d in f"{i:08d}")
                file.write(f"{digits} {digits[::-1]} {digits} {digits}\n")
        done = subprocess.run([sys.executable, "-c", program, str(source)], capture_output=True, text=True, check=True)
        assert source.with_suffix(".out").stat().st_size == source.stat().st_size
        peaks.append(int(done.stdout))
    # as a set of digests, 95,000 sentences more would take 10 MB; the mapped flags take 0.1 MB
    assert peaks[1] - peaks[0] < 6_000  # KiB


def test_held_out_sentences_are_normalised(tmp_path: Path) -> None:
    path = tmp_path / "foreign.jsonl"
    write_rows(path, [Row("a.wav", 1.0, "Don't stop!")])
    assert "don't stop" in sentences_of([path], LANGUAGE)


# --- the vocabulary


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5), min_size=1, max_size=8), st.integers(1, 7))
def test_the_most_frequent_words(tmp_path_factory: pytest.TempPathFactory, lines: list[list[str]], limit: int) -> None:
    folder = tmp_path_factory.mktemp("words")
    (folder / "text").write_text("".join(f"{' '.join(line)}\n" for line in lines))
    counts = Counter(word for line in lines for word in line)
    expected = sorted(sorted(counts, key=lambda word: (-counts[word], word))[:limit])
    with pytest.MonkeyPatch.context() as patch:
        for most in (2, 1000):  # counted in runs on disk, or in memory
            patch.setattr(vocabulary, "MAX_TYPES", most)
            assert vocabulary.most_frequent(folder / "text", limit, folder) == (expected, len(counts))
    assert [path.name for path in folder.iterdir()] == ["text"]
