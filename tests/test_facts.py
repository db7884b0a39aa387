"""What a stage counted as pairs and tables, and words of several systems on common columns."""

from hlas.report.diffs import Cell, word_grid
from hlas.report.facts import facts, flat


def test_facts_make_tables_of_like_records_and_pairs_of_the_rest() -> None:
    data = {
        "counts": {"sentences": 12_345, "in_dev_or_test": 3},
        "splits": {"dev": {"kept": 5, "rejected": {}}, "test": {"kept": 6, "hours": 0.25, "rejected": {"no_audio": 1}}},
        "sources": [{"label": "a.txt", "read": 7}],
        "dev": {"perplexity": None, "nested": {"deep": True}},
        "ngrams": [1, 2],
    }
    found = facts(data)
    assert found.pairs == (
        ("sentences", "12\u202f345"),
        ("in dev or test", "3"),
        ("dev: perplexity", "–"),
        ("dev: nested: deep", "yes"),
        ("ngrams", "1, 2"),
    )
    splits, sources = found.tables
    assert splits.head == ("", "kept", "rejected", "hours")
    assert splits.rows == (("dev", "5", "–", ""), ("test", "6", "no audio 1", "0.25"))
    assert (sources.name, sources.rows) == ("sources", (("1", "a.txt", "7"),))
    assert not facts({})
    assert dict(flat({"model": {"optim": {"lr": 0.01}, "masks": [{"f": 2}]}})) == {
        "model.optim.lr": "0.01",
        "model.masks.0.f": "2",
    }


def test_word_grid_lays_all_systems_on_common_columns() -> None:
    grid = word_grid("a b c", ["a x c", "a b b c d", ""])
    assert grid.reference == ("a", "", "b", "c", "") or grid.reference == ("a", "b", "", "c", "")
    substituted, inserted, deleted = grid.rows
    assert [c.text for c in substituted if c.edit != "none"] == ["a", "x", "c"]
    assert [c.edit for c in substituted if c.edit != "none"] == ["equal", "substitute", "equal"]
    assert [c.text for c in inserted if c.edit == "insert"] == ["b", "d"]
    assert [c for c in deleted if c.edit != "none"] == [Cell("", "delete")] * 3
    assert {len(row) for row in grid.rows} == {len(grid.reference)}
