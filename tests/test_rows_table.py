"""Manifests written from columns are, byte for byte, those written row by row."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hlas.manifests import rows_table
from hlas.manifests.rows import Row, read_manifest, write_rows
from hlas.manifests.rows_table import SCHEMA, rows_frame, write_manifest

TEXT = st.one_of(st.just(""), st.text(st.characters(codec="utf-8"), max_size=8), st.sampled_from(['"', "\\", "\n\x00"]))
SECONDS = st.floats(allow_nan=False, allow_infinity=False)
VOTES = st.one_of(st.none(), st.integers(0, 2**31 - 1))
ROWS = st.builds(
    Row,
    audio_filepath=TEXT,
    duration=SECONDS,
    text=TEXT,
    raw_text=TEXT,
    speaker=TEXT,
    variant=TEXT,
    source=TEXT,
    up_votes=VOTES,
    down_votes=VOTES,
    snr_db=st.one_of(st.none(), SECONDS),
    offset=st.one_of(st.none(), SECONDS),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROWS, max_size=6))
def test_columns_are_written_as_rows_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Row]) -> None:
    monkeypatch.setattr(rows_table, "_SLICE", 2)
    frame = rows_frame(rows)
    assert dict(frame.schema) == SCHEMA
    write_manifest(tmp_path / "columns.jsonl", frame)
    write_rows(tmp_path / "rows.jsonl", rows)
    assert (tmp_path / "columns.jsonl").read_bytes() == (tmp_path / "rows.jsonl").read_bytes()
    assert read_manifest(tmp_path / "columns.jsonl") == rows


def test_what_json_cannot_say_leaves_no_manifest(tmp_path: Path) -> None:
    frame = rows_frame([Row("a", 1.0, "a"), Row("b", float("nan"), "b")])
    with pytest.raises(ValueError, match="duration is not a finite number"):
        write_manifest(tmp_path / "a.jsonl", frame)
    with pytest.raises(ValueError, match="snr_db is not a finite number"):
        write_manifest(tmp_path / "a.jsonl", frame.head(1).with_columns(snr_db=pl.lit(float("inf"))))
    assert not list(tmp_path.iterdir())
