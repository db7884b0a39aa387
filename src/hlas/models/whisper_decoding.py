"""From audio to transcripts, as Whisper does it, for either engine: windows, prompts, fallback to higher temperatures.

The rules are those of OpenAI's program (Radford et al. 2022, arXiv:2212.04356, section 4.5). What differs: windows of
many recordings are decoded together, those of one length at a time, and a window may be cut to its clip and some
silence instead of being padded to 30 s (`padding_s`).
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from hlas.models.transcripts import Decoding, Segment, Transcript
from hlas.models.whisper_engine import FRAMES_PER_S, SAMPLE_RATE_HZ, WINDOW_FRAMES, WINDOW_S, Drawn, Engine, text_room
from hlas.models.whisper_options import WhisperOptions
from hlas.models.whisper_segments import split_by_timestamps
from hlas.parallel import chunked

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Audio = npt.NDArray[np.float32]  # (samples,), mono, 16 kHz

STEP_FRAMES = 200  # cut windows are multiples of 2 s: few lengths, so that there are batches of one length
_FORGET_ABOVE = 0.5  # a text drawn at a higher temperature is no context for the next window; OpenAI's limit
_CONTEXT_TOKENS = 223  # of the text before; OpenAI's limit
_NO_WINDOW = Decoding(0.0, 0.0, 0.0, 1.0, ("silence",))  # of a clip with nothing to hear: '' is certain


@dataclass(slots=True)
class _Recording:
    """One recording on its way."""

    number: int
    features: "Audio"  # (mels, frames)
    duration_s: float
    with_times: bool  # whether times are asked for
    language: str  # '' until it is guessed
    times: Any = None  # faster-whisper's SpeechTimestampsMap where silence was cut out
    position: int = 0  # frame that the next window begins at
    context: tuple[int, ...] = ()  # tokens of the windows before
    segments: list[Segment] = field(default_factory=list)
    decodings: list[Decoding] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Frames of the next window."""
        return min(WINDOW_FRAMES, self.features.shape[1] - self.position)

    def times_of(self, start_s: float, end_s: float) -> tuple[float, float]:
        """The same in the recording as it came, silence that was cut out included, and inside it."""
        if self.times is not None:
            start_s, end_s = self.times.get_original_time(start_s), self.times.get_original_time(end_s, is_end=True)
        return round(min(start_s, self.duration_s), 3), round(min(end_s, self.duration_s), 3)


def transcribe_all(
    engine: Engine, clips: Sequence["Audio"], options: WhisperOptions, language: str
) -> list[Transcript]:
    """Transcribe clips of any length; `language`: Whisper's code, '' lets it guess for each.

    Every round decodes the next window of each recording, so that none waits for a long one. A text depends on the
    clip alone as long as nothing is sampled; the samples depend on what was drawn before. An empty clip, and one that
    is all silence to the VAD, has no window: the doubt `silence`.
    """
    recordings, out = [], {}
    for number, clip in enumerate(clips):
        duration_s = len(clip) / SAMPLE_RATE_HZ
        if not len(clip):
            out[number] = Transcript((), 0.0, language, (_NO_WINDOW,))
        elif options.over_30_s == "reject" and duration_s > WINDOW_S:
            out[number] = Transcript((), duration_s, language, rejected=True)
        else:
            recordings.append(_prepared(engine, number, clip, options, language))
    decoder = _Decoder(engine, options)
    waiting = [r for r in recordings if r.left > 0]
    while waiting:
        for batch in _batches(waiting, options):
            decoder.decode(batch)
        waiting = [r for r in waiting if r.left > 0]
    for r in recordings:
        decodings = tuple(r.decodings) or (_NO_WINDOW,)
        out[r.number] = Transcript(tuple(r.segments), r.duration_s, r.language, decodings)
    return [out[number] for number in range(len(clips))]


def _prepared(engine: Engine, number: int, clip: "Audio", options: WhisperOptions, language: str) -> _Recording:
    duration_s, times = len(clip) / SAMPLE_RATE_HZ, None
    if options.vad_filter:
        from faster_whisper.vad import SpeechTimestampsMap, collect_chunks, get_speech_timestamps

        speech = get_speech_timestamps(clip)
        clip = collect_chunks(clip, speech)[0][0]
        times = SpeechTimestampsMap(speech, SAMPLE_RATE_HZ)
    with_times = options.timestamps == "always" or len(clip) > WINDOW_S * SAMPLE_RATE_HZ
    return _Recording(number, _features(clip, engine.mels), duration_s, with_times, language, times)


def _features(clip: "Audio", mels: int) -> "Audio":
    """Log-mel features (mels, frames) of (samples,); faster-whisper's for both engines, so that they hear the same."""
    import numpy as np

    if not len(clip):
        return np.zeros((mels, 0), np.float32)
    features: Audio = _extractor(mels)(clip)[:, :-1]  # the last frame is of its own padding
    return features


@cache
def _extractor(mels: int) -> Any:
    from faster_whisper.feature_extractor import FeatureExtractor

    return FeatureExtractor(feature_size=mels)


def _batches(recordings: Iterable[_Recording], options: WhisperOptions) -> Iterable[list[_Recording]]:
    """Windows that can be decoded together: of one length, with or without times, with as long a prompt."""

    def together(r: _Recording) -> tuple[int, bool, int]:
        return _frames(r, options), r.with_times, len(r.context)

    for _, group in groupby(sorted(recordings, key=lambda r: (*together(r), r.number)), key=together):
        yield from chunked(group, options.batch_size)


def _frames(r: _Recording, options: WhisperOptions) -> int:
    """Length of the next window; whole ones where the language has to be guessed."""
    return window_frames(r.left, options.silence_s if r.language else None)


def window_frames(frames: int, padding_s: float | None) -> int:
    """Length of the window that so many frames of features are heard in."""
    if padding_s is None:
        return WINDOW_FRAMES
    wanted = frames + round(padding_s * FRAMES_PER_S)
    return min(WINDOW_FRAMES, -(-wanted // STEP_FRAMES) * STEP_FRAMES)


class _Decoder:
    """Decodes the next window of each recording of a batch."""

    def __init__(self, engine: Engine, options: WhisperOptions) -> None:
        from faster_whisper.tokenizer import Tokenizer

        self._engine, self._options = engine, options
        self._tokens = Tokenizer(engine.tokenizer, multilingual=False)  # the tokens that every Whisper has

    def decode(self, batch: Sequence[_Recording]) -> None:
        """Hear one window of each and move on."""
        frames = _frames(batch[0], self._options)
        encoded = self._encoded(batch, frames)
        if unknown := [i for i, r in enumerate(batch) if not r.language]:
            for i, code in zip(unknown, self._engine.guess(self._engine.pick(encoded, unknown)), strict=True):
                batch[i].language = code
        prompts = [self._prompt(r) for r in batch]
        temperatures = self._options.temperatures
        if frames == WINDOW_FRAMES:
            found = self._fallback(encoded, prompts, temperatures)
        else:  # a text that is bad without the silence that Whisper is used to gets its whole window
            found = self._fallback(encoded, prompts, temperatures[:1])
            if again := [i for i, (drawn, how) in enumerate(found) if not _good(how, drawn, prompts[i])]:
                encoded = self._encoded([batch[i] for i in again], WINDOW_FRAMES)
                better = self._fallback(encoded, [prompts[i] for i in again], temperatures)
                for i, one in zip(again, better, strict=True):
                    found[i] = one
        for r, (drawn, how) in zip(batch, found, strict=True):
            self._take(r, drawn, how)

    def _encoded(self, batch: Sequence[_Recording], frames: int) -> Any:
        import numpy as np

        features = np.zeros((len(batch), self._engine.mels, frames), np.float32)
        for window, r in zip(features, batch, strict=True):
            window[:, : r.left] = r.features[:, r.position : r.position + r.left]
        return self._engine.encode(features)

    def _prompt(self, r: _Recording) -> list[int]:
        tokens = self._tokens
        prompt = [tokens.sot_prev, *r.context] if r.context else []
        prompt.append(tokens.sot)
        if len(self._engine.languages) > 1:
            prompt += [self._engine.tokenizer.token_to_id(f"<|{r.language}|>"), tokens.transcribe]
        return prompt if r.with_times else [*prompt, tokens.no_timestamps]

    def _fallback(
        self, encoded: Any, prompts: Sequence[list[int]], temperatures: Sequence[float]
    ) -> list[tuple[Drawn, Decoding]]:
        """A text for each window: the first that is neither repetitive nor improbable, else the most probable one."""
        tried: list[list[tuple[Drawn, Decoding]]] = [[] for _ in prompts]
        left = list(range(len(prompts)))
        for temperature in temperatures:
            chosen = self._engine.pick(encoded, left)
            for i, drawn in zip(left, self._engine.draw(chosen, [prompts[i] for i in left], temperature), strict=True):
                tried[i].append((drawn, self._judged(drawn, temperature)))
            left = [i for i in left if {"repetitive", "improbable"} & set(tried[i][-1][1].doubts)]
            if not left:
                break
        out = [all_[-1] for all_ in tried]
        for i in left:
            plain = [one for one in tried[i] if "repetitive" not in one[1].doubts]
            out[i] = max(plain or tried[i], key=lambda one: one[0].avg_logprob)
        return out

    def _judged(self, drawn: Drawn, temperature: float) -> Decoding:
        options = self._options
        ratio = compression_ratio(self._tokens.decode(list(drawn.tokens)).strip())
        signs = {
            "no_speech": drawn.no_speech_prob > options.no_speech_threshold,
            "repetitive": ratio > options.compression_ratio_threshold,
            "improbable": drawn.avg_logprob < options.log_prob_threshold,
        }
        silence = signs["no_speech"] and signs["improbable"]
        doubts = ("silence",) if silence else tuple(name for name, there in signs.items() if there)
        return Decoding(temperature, drawn.avg_logprob, ratio, drawn.no_speech_prob, doubts)

    def _take(self, r: _Recording, drawn: Drawn, how: Decoding) -> None:
        """Add a window's text to its recording and move on to the next window."""
        start_s, length_s, heard = r.position / FRAMES_PER_S, r.left / FRAMES_PER_S, r.left
        r.decodings.append(how)
        said: tuple[int, ...] = ()
        if "silence" not in how.doubts:
            pieces, go_on_s = split_by_timestamps(drawn.tokens, self._tokens.timestamp_begin, length_s)
            heard = heard if go_on_s is None else min(heard, round(go_on_s * FRAMES_PER_S))
            for piece in pieces:
                text = self._tokens.decode(list(piece.tokens)).strip()
                if text and piece.start_s < piece.end_s:
                    r.segments.append(Segment(*r.times_of(start_s + piece.start_s, start_s + piece.end_s), text))
                    said += piece.tokens
        r.position += heard
        if self._options.condition_on_previous_text:
            kept = not how.doubts and how.temperature <= _FORGET_ABOVE
            r.context = (r.context + said)[-_CONTEXT_TOKENS:] if kept else ()


def _good(how: Decoding, drawn: Drawn, prompt: Sequence[int]) -> bool:
    """Whether a text from a cut window will do."""
    return set(how.doubts) <= {"no_speech"} and len(drawn.tokens) < text_room(len(prompt))


def compression_ratio(text: str) -> float:
    """Bytes of a text / bytes of it after zlib: OpenAI's measure of how much it repeats itself."""
    data = text.encode("utf-8")
    return len(data) / len(zlib.compress(data))
