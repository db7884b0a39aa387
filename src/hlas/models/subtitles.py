"""Segments as SubRip (.srt) and WebVTT (.vtt) captions: two lines of at most 42 characters, six seconds at most.

The limits are the BBC's and Netflix's for subtitles; WebVTT is https://www.w3.org/TR/webvtt1.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from hlas.models.transcripts import Segment

LINE_CHARS = 42
LINES = 2
CAPTION_S = 6.0
SHORTEST_S = 1.0  # a shorter caption stays so long, if the next one lets it
PAUSE_S = 0.8  # a pause between words that ends a segment


def group_words(words: Iterable[Segment]) -> list[Segment]:
    """Timed words as segments that fit one caption: cut at pauses, and where a caption would be too long."""
    groups: list[list[Segment]] = []
    for word in words:
        group = groups[-1] if groups else []
        if group and word.start_s - group[-1].end_s < PAUSE_S and _fits([*group, word]):
            group.append(word)
        else:
            groups.append([word])
    return [_joined(group) for group in groups]


def captions(segments: Iterable[Segment]) -> list[Segment]:
    """One entry a caption, in order and without overlap; its text holds the line breaks.

    A segment too long for a caption is cut between words, each word's time guessed from its share of the characters.
    """
    parts = [part for segment in segments for part in _split(segment)]
    out = []
    for part, following in zip(parts, [*parts[1:], None]):
        end_s = max(part.end_s, part.start_s + SHORTEST_S)
        if following is not None and following.start_s > part.start_s:
            end_s = min(end_s, following.start_s)
        out.append(Segment(part.start_s, end_s, "\n".join(_lines(part.text))))
    return out


def srt(segments: Iterable[Segment]) -> str:
    """A SubRip file. It knows no escapes: an arrow, which would end a caption for some readers, becomes '->'."""
    blocks = (
        f"{number}\n{clock(c.start_s, ',')} --> {clock(c.end_s, ',')}\n{c.text.replace('-->', '->')}\n"
        for number, c in enumerate(captions(segments), 1)
    )
    return "\n".join(blocks)


def vtt(segments: Iterable[Segment]) -> str:
    """A WebVTT file."""
    blocks = (f"{clock(c.start_s, '.')} --> {clock(c.end_s, '.')}\n{_escaped(c.text)}\n" for c in captions(segments))
    return "\n".join(["WEBVTT\n", *blocks])


def clock(seconds: float, mark: str) -> str:
    """HH:MM:SS and milliseconds after the mark."""
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}{mark}{ms % 1000:03d}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _lines(text: str) -> list[str]:
    return textwrap.wrap(text, LINE_CHARS, break_long_words=False, break_on_hyphens=False)


def _fits(words: Sequence[Segment]) -> bool:
    whole = _joined(words)
    return len(words) == 1 or (whole.end_s - whole.start_s <= CAPTION_S and len(_lines(whole.text)) <= LINES)


def _joined(words: Sequence[Segment]) -> Segment:
    return Segment(words[0].start_s, words[-1].end_s, " ".join(word.text for word in words))


def _split(segment: Segment) -> list[Segment]:
    """The segment as parts that fit a caption, of about equal length."""
    words = list(_words(segment))
    for number in range(1, len(words)):
        shares: dict[int, list[Segment]] = {}
        for word in words:
            middle = (word.start_s + word.end_s) / 2 - segment.start_s
            share = int(number * middle / (segment.end_s - segment.start_s)) if segment.end_s > segment.start_s else 0
            shares.setdefault(share, []).append(word)
        if all(_fits(share) for share in shares.values()):
            return [_joined(share) for share in shares.values()]
    return words


def _words(segment: Segment) -> Iterator[Segment]:
    """The segment's words, its time shared out by their characters."""
    texts = segment.text.split()
    total = sum(len(text) + 1 for text in texts)
    done, length_s = 0, segment.end_s - segment.start_s
    for text in texts:
        begin, done = done, done + len(text) + 1
        yield Segment(segment.start_s + length_s * begin / total, segment.start_s + length_s * done / total, text)
