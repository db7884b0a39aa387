"""Manifests and hypotheses that other tools wrote: read as they are, or one error that names the line."""

from pathlib import Path

import pytest

from hlas.errors import UserError
from hlas.manifests.rows import read_hypotheses, read_manifest

GOOD = b'{"audio_filepath": "a.wav", "duration": 1, "text": "a", "pred_text": "a", "speaker": 7}\n'


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"\xff", "not a JSON object: 'utf-8' codec"),
        (b"[" * 100_000, "not a JSON object: maximum recursion"),
        (b'{"audio_filepath": "a.wav", "duration": 1}', "no key 'text'"),
        (b'{"audio_filepath": "a.wav", "duration": NaN, "text": "a"}', "duration is nan, not a number"),
        (b'{"audio_filepath": "a.wav", "duration": "1", "text": "a"}', "duration is '1', not a number"),
        (b'{"audio_filepath": 3, "duration": 1, "text": "a"}', "audio_filepath is 3, not a string"),
        (b'{"audio_filepath": "a.wav", "duration": 1, "text": null}', "text is None, not a string"),
        (b'{"audio_filepath": "a.wav", "duration": 1, "text": "a", "speaker": ["s"]}', r"speaker is \['s'\], not a"),
    ],
)
def test_a_line_that_is_no_row_is_one_error(tmp_path: Path, line: bytes, problem: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(GOOD + line)
    with pytest.raises(UserError, match=rf"m\.jsonl:2: {problem}"):
        read_manifest(path)


@pytest.mark.parametrize("more", [b'"pred_text": 3', b'"nbest": [1]', b'"nbest": 1', b'"words": ["a"]', b'"words": 5'])
def test_a_line_that_is_no_hypothesis_is_one_error(tmp_path: Path, more: bytes) -> None:
    path = tmp_path / "h.jsonl"
    path.write_bytes(GOOD + GOOD.replace(b"}", b", " + more + b"}"))
    with pytest.raises(UserError, match=r"h\.jsonl:2: "):
        read_hypotheses(path)


def test_a_number_for_a_text_is_taken_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(GOOD.replace(b"\n", b"\r\n"))
    assert [row.speaker for row in read_manifest(path)] == ["7"]
