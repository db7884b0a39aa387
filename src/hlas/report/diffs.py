"""Word-aligned comparison of a reference with what several systems heard, as a grid that a table can show.

Columns are the reference's words; where a system has words between them, a column without a reference word stands
before the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Edit = Literal["equal", "substitute", "delete", "insert", "none"]


@dataclass(frozen=True, slots=True)
class Cell:
    """What one system has in one column."""

    text: str  # '' for a deleted word, or where only another system inserted something
    edit: Edit


@dataclass(frozen=True, slots=True)
class Grid:
    """One utterance: every row has as many columns as the reference row."""

    reference: tuple[str, ...]  # '' in a column of insertions
    rows: tuple[tuple[Cell, ...], ...]  # one a system


_LETTERS = {"equal": "=", "replace": "s", "delete": "d", "insert": "i"}


def edit_script(reference: str, heard: str) -> str:
    """The alignment in short: '3=1s2d' is three words right, one substituted, two missing; 'i' are words too many."""
    from rapidfuzz.distance import Levenshtein

    codes = Levenshtein.opcodes(reference.split(), heard.split())
    runs = [(max(c.src_end - c.src_start, c.dest_end - c.dest_start), _LETTERS[c.tag]) for c in codes]
    return "".join(f"{count}{letter}" for count, letter in runs if count)


def word_grid(reference: str, hypotheses: Sequence[str]) -> Grid:
    """Align each hypothesis with the reference word by word (Levenshtein) and lay them on common columns."""
    from rapidfuzz.distance import Levenshtein

    words = reference.split()
    cells: list[list[Cell]] = []  # (systems, words)
    inserted: list[list[list[str]]] = []  # (systems, words + 1): words heard before each reference word
    for hypothesis in hypotheses:
        heard = hypothesis.split()
        row = [Cell("", "delete")] * len(words)
        before: list[list[str]] = [[] for _ in range(len(words) + 1)]
        for code in Levenshtein.opcodes(words, heard):
            if code.tag == "insert":
                before[code.src_start] += heard[code.dest_start : code.dest_end]
            elif code.tag in ("equal", "replace"):
                edit: Edit = "equal" if code.tag == "equal" else "substitute"
                for i, j in zip(
                    range(code.src_start, code.src_end), range(code.dest_start, code.dest_end), strict=True
                ):
                    row[i] = Cell(heard[j], edit)
        cells.append(row)
        inserted.append(before)

    columns: list[str] = []
    rows: list[list[Cell]] = [[] for _ in hypotheses]
    for i in range(len(words) + 1):
        if any(before[i] for before in inserted):
            columns.append("")
            for row, before in zip(rows, inserted, strict=True):
                row.append(Cell(" ".join(before[i]), "insert" if before[i] else "none"))
        if i < len(words):
            columns.append(words[i])
            for row, system_cells in zip(rows, cells, strict=True):
                row.append(system_cells[i])
    return Grid(tuple(columns), tuple(tuple(row) for row in rows))
