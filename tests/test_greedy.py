"""Greedy CTC against the definition: walk the frames, skip repeats, skip blanks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlas.decode.greedy import best_labels, collapse, greedy_texts
from hlas.decode.logprobs import BadLogProbs, Vocabulary, log_probs_writer, read_log_probs, write_vocabulary
from hlas.errors import UserError
from hlas.manifests.rows import Row

BLANK = 3
paths = st.lists(st.integers(0, BLANK), max_size=12)


def collapse_by_definition(path: list[int]) -> list[int]:
    out, previous = [], None
    for label in path:
        if label not in (previous, BLANK):
            out.append(label)
        previous = label
    return out


@given(paths)
def test_collapse_agrees_with_the_definition(path: list[int]) -> None:
    assert collapse(np.array(path, dtype=np.int64), BLANK).tolist() == collapse_by_definition(path)


@given(st.lists(st.integers(0, BLANK - 1), max_size=8), st.integers(1, 3))
def test_a_blank_between_any_two_tokens_keeps_them_all(tokens: list[int], times: int) -> None:
    path = [label for token in tokens for label in [token] * times + [BLANK]]
    assert collapse(np.array(path, dtype=np.int64), BLANK).tolist() == tokens


@given(paths)
def test_repeating_every_frame_changes_nothing(path: list[int]) -> None:
    labels = np.array(path, dtype=np.int64)
    assert collapse(np.repeat(labels, 3), BLANK).tolist() == collapse(labels, BLANK).tolist()


def one_hot(path: list[int], columns: int) -> np.ndarray:
    return np.log(np.where(np.arange(columns) == np.array(path)[:, None], 0.9, 0.1 / (columns - 1)))


def test_texts_follow_the_index_and_do_not_run_into_each_other(tmp_path: Path) -> None:
    write_vocabulary(tmp_path, Vocabulary(("a", "b", " "), "char", 0.02))
    with log_probs_writer(tmp_path, "dev", 4) as append:
        append(Row("second.wav", 1.0, ""), one_hot([0, 0, 3, 0, 2, 2, 1], 4), position=1)
        append(Row("first.wav", 1.0, ""), one_hot([1, 3, 3], 4), position=0)  # ends where the other could begin
        append(Row("silence.wav", 1.0, ""), one_hot([3, 3], 4), position=2)
        append(Row("none.wav", 0.0, ""), np.zeros((0, 4)), position=3)
    log_probs = read_log_probs(tmp_path, "dev")
    assert [u.row.audio_filepath for u in log_probs.utterances][:2] == ["first.wav", "second.wav"]
    assert list(greedy_texts(log_probs)) == ["b", "aa b", "", ""]


def test_pieces_become_words(tmp_path: Path) -> None:
    write_vocabulary(tmp_path, Vocabulary(("▁", "▁a", "b"), "bpe", 0.04))
    with log_probs_writer(tmp_path, "dev", 4) as append:
        append(Row("x.wav", 1.0, ""), one_hot([1, 2, 3, 2, 0, 2, 1], 4))
    assert list(greedy_texts(read_log_probs(tmp_path, "dev"))) == ["abb b a"]


@given(
    st.lists(st.lists(st.sampled_from([0.0, -0.0, -6e-8, -0.5, -3.0, -60000.0, -np.inf, 0.25]), min_size=4, max_size=4))
)
def test_the_best_label_has_the_largest_value(rows: list[list[float]]) -> None:
    frames = np.array([[*row, -1.0] for row in rows], dtype=np.float16).reshape(-1, 5)
    best = best_labels(frames)
    assert frames[np.arange(len(frames)), best].tolist() == frames.max(axis=1).tolist()
    plain = ~(frames == 0).any(axis=1)  # 0.0 and -0.0 are equal, and either may be taken
    assert best[plain].tolist() == frames[plain].argmax(axis=1).tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("bad", [[0.0, np.nan], [-1.0, -np.nan], [np.inf, -1.0], [-np.inf, -np.inf]])
def test_a_frame_that_is_no_distribution_is_found(dtype: str, bad: list[float]) -> None:
    with pytest.raises(BadLogProbs) as caught:
        best_labels(np.array([[-1.0, -0.5], [-0.1, -3.0], bad], dtype=dtype))
    assert caught.value.frame == 2


def test_nan_names_the_utterance(tmp_path: Path) -> None:
    write_vocabulary(tmp_path, Vocabulary(("a",), "char", 0.02))
    with log_probs_writer(tmp_path, "dev", 2) as append:
        append(Row("clips/fine.wav", 1.0, ""), np.log([[0.9, 0.1]]))
        append(Row("clips/broken.wav", 1.0, ""), np.full((1, 2), np.nan))
    with pytest.raises(UserError, match="dev: utterance broken, frame 0"):
        list(greedy_texts(read_log_probs(tmp_path, "dev")))
