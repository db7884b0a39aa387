"""Transcripts are checked once each, in blocks, and come back to their rows whatever they hold."""

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hlas.manifests import transcripts
from hlas.manifests.text import Language
from hlas.manifests.transcripts import Tags, TranscriptCheck, check_transcripts

LANGUAGE = Language("xx", "test", tuple("abcdefghijklmnopqrstuvwxyz"))
CHECK = TranscriptCheck(LANGUAGE, Tags())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=9), max_size=9), st.integers(1, 4))
def test_each_sentence_is_checked_by_the_language(
    monkeypatch: pytest.MonkeyPatch, sentences: list[str], block: int
) -> None:
    monkeypatch.setattr(transcripts, "BLOCK", block)
    found = check_transcripts(pl.Series("sentence", sentences, pl.String), CHECK, 1)
    expected = []
    for sentence in dict.fromkeys(sentences):
        checked = LANGUAGE.check(sentence)
        expected.append((sentence, checked.text, checked.reason, checked.detail))
    assert found.rows() == expected


def test_two_processes_give_what_one_gives() -> None:
    letters = "abcdefghijklmnopqrstuvwxyzéž"
    words = [letters[i % 28] + letters[i // 28 % 28] + letters[i // 784] for i in range(20_000)]
    sentences = pl.Series("sentence", words[::-1] + words)
    assert sentences.n_unique() > transcripts.BLOCK
    assert check_transcripts(sentences, CHECK, 2).equals(check_transcripts(sentences, CHECK, 1))


def test_tags_are_the_same_in_capitals_and_small_letters() -> None:
    check = TranscriptCheck(LANGUAGE, Tags(drop=("Noise",), reject=("UNCLEAR",)))
    (block,) = check(["a [noise] b [NOISE]\na [Unclear]"])
    assert (block.texts.split("\n")[0], block.rejects) == ("a b", [(1, "tag", "[Unclear]")])
    with pytest.raises(ValueError, match="both dropped and rejected"):
        Tags(drop=("Noise",), reject=("noise",))
