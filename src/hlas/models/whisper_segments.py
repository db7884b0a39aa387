"""Whisper's time tokens -> pieces of text with times, and where the next window begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

STEP_S = 0.02  # of one time token


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of one segment and when it was said, from the window's start."""

    start_s: float
    end_s: float
    tokens: tuple[int, ...]  # time tokens among them


def split_by_timestamps(tokens: Sequence[int], first_time: int, length_s: float) -> tuple[list[Piece], float | None]:
    """The pieces of a window of `length_s`, and the second at which the next begins (None: after this window).

    `first_time` is the token of time 0; those above it are later. As in OpenAI's program: two time tokens in a row end
    one segment and begin the next. Where the last of the text is no whole segment it is heard again in the next
    window, unless there is just one.
    """
    is_time = [token >= first_time for token in tokens]
    cuts = [i for i in range(1, len(tokens)) if is_time[i] and is_time[i - 1]]
    ends_whole = is_time[-2:] == [False, True]  # nothing is said after the last time
    if not cuts:
        times = [token for token in tokens if token > first_time]
        end_s = (times[-1] - first_time) * STEP_S if times else length_s
        return [Piece(0.0, end_s, tuple(tokens))], None
    if ends_whole:
        cuts.append(len(tokens))
    pieces = []
    for begin, end in pairwise([0, *cuts]):  # what follows the last cut is dropped
        inside = tuple(tokens[begin:end])
        start_s, end_s = (max(0, token - first_time) * STEP_S for token in (inside[0], inside[-1]))
        pieces.append(Piece(start_s, end_s, inside))
    last_s = (tokens[cuts[-1] - 1] - first_time) * STEP_S
    return pieces, None if ends_whole or last_s <= 0 else last_s
