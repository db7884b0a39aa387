"""How Whisper hears: windows, batches, prompts, fallback and doubts, with an engine that says what it is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlas.models.whisper_decoding import compression_ratio, transcribe_all, window_frames
from hlas.models.whisper_engine import Drawn
from hlas.models.whisper_options import WhisperOptions
from hlas.models.whisper_segments import Piece, split_by_timestamps
from whisper_kit import noise

pytest_plugins = ("whisper_kit",)


class Scripted:
    """An engine that answers with given texts and notes what it was asked."""

    device, compute_type, mels, languages = "cpu", "float32", 80, ("cs", "pl")

    def __init__(self, tokenizer, script):
        self.tokenizer, self.script, self.asked = tokenizer, script, []

    def encode(self, features):
        return features

    def pick(self, encoded, windows):
        return encoded[list(windows)]

    def guess(self, encoded):
        return ["pl"] * len(encoded)

    def draw(self, encoded, prompts, temperature):
        self.asked.append((encoded.shape, [list(p) for p in prompts], temperature))
        return [self.script(encoded.shape[2], prompt, temperature) for prompt in prompts]


@pytest.fixture(scope="session")
def tokenizer(tiny):
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(tiny / "tokenizer.json"))


def words(tokenizer, text):
    return tuple(tokenizer.token_to_id(f"Ġw{word}") for word in text.split())


def test_a_bad_text_is_drawn_anew_at_the_next_temperature_and_the_best_is_kept(tokenizer):
    logprobs = {0.0: -3.0, 0.4: -1.5, 0.8: -2.0}
    texts = {0.0: "300", 0.4: "301", 0.8: "302"}
    engine = Scripted(tokenizer, lambda n, p, t: Drawn(words(tokenizer, texts[t]), logprobs[t], 0.0))
    (heard,) = transcribe_all(engine, [noise(1.0)], WhisperOptions(temperatures=tuple(logprobs)), "cs")
    assert [t for _, _, t in engine.asked] == [0.0, 0.4, 0.8]
    assert heard.text == "w301" and heard.doubts == ("improbable",) and heard.decodings[0].temperature == 0.4
    logprobs[0.4] = -0.5
    engine.asked.clear()
    (heard,) = transcribe_all(engine, [noise(1.0)], WhisperOptions(temperatures=tuple(logprobs)), "cs")
    assert [t for _, _, t in engine.asked] == [0.0, 0.4] and heard.doubts == ()


def test_repetition_and_silence_are_told(tokenizer):
    loop = words(tokenizer, " ".join(["300"] * 60))
    engine = Scripted(tokenizer, lambda n, p, t: Drawn(loop, -0.1, 0.9))
    (heard,) = transcribe_all(engine, [noise(1.0)], WhisperOptions(temperatures=(0.0, 0.5)), "cs")
    assert heard.doubts == ("no_speech", "repetitive") and heard.text
    assert heard.decodings[0].compression_ratio > 2.4 and len(engine.asked) == 2
    engine = Scripted(tokenizer, lambda n, p, t: Drawn(words(tokenizer, "300"), -2.0, 0.9))
    (heard,) = transcribe_all(engine, [noise(1.0)], WhisperOptions(), "cs")
    assert heard.doubts == ("silence",) and heard.text == "" and len(engine.asked) == 1


def test_a_bad_text_of_a_cut_window_gets_a_whole_one(tokenizer):
    def script(frames, prompt, temperature):
        return Drawn(words(tokenizer, "301" if frames == 3000 else "300"), -0.1 if frames == 3000 else -2.0, 0.0)

    engine = Scripted(tokenizer, script)
    heard = transcribe_all(engine, [noise(1.0), noise(3.0)], WhisperOptions(padding_s=1.0), "cs")
    assert [t.text for t in heard] == ["w301"] * 2 and not heard[0].doubts
    assert [shape[2] for shape, _, _ in engine.asked] == [200, 3000, 400, 3000]
    engine = Scripted(tokenizer, lambda n, p, t: Drawn(words(tokenizer, "300"), -0.1, 0.0))
    transcribe_all(engine, [noise(1.0)], WhisperOptions(padding_s=1.0), "")
    assert engine.asked[0][0][2] == 3000  # whole, where the language is guessed


def test_the_prompt_names_language_task_and_the_text_before(tokenizer):
    def ids(*names):
        return [tokenizer.token_to_id(f"<|{name}|>") for name in names]

    engine = Scripted(tokenizer, lambda n, p, t: Drawn(words(tokenizer, "300"), -0.1, 0.0))
    transcribe_all(engine, [noise(1.0)], WhisperOptions(), "")
    assert engine.asked[0][1] == [ids("startoftranscript", "pl", "transcribe", "notimestamps")]
    engine.asked.clear()
    transcribe_all(engine, [noise(40.0)], WhisperOptions(condition_on_previous_text=True), "cs")
    asked = [prompts[0] for _, prompts, _ in engine.asked]
    start = ids("startoftranscript", "cs", "transcribe")
    assert asked == [start, [*ids("startofprev"), *words(tokenizer, "300"), *start]]


def test_no_clip_waits_for_a_long_one(tokenizer):
    engine = Scripted(tokenizer, lambda n, p, t: Drawn(words(tokenizer, "300"), -0.1, 0.0))
    clips = [noise(1.0), noise(70.0), noise(1.0, 1), noise(1.0, 2)]
    heard = transcribe_all(engine, clips, WhisperOptions(), "cs")
    assert [len(t.segments) for t in heard] == [1, 3, 1, 1]
    assert [shape[0] for shape, _, _ in engine.asked] == [3, 1, 1, 1]  # the short ones together, in the first round
    assert heard[1].segments[-1].end_s == 70.0


def test_windows_of_one_length_are_decoded_together_in_whatever_order_the_clips_come(tokenizer):
    said = {400: "300", 600: "301", 1000: "302"}  # by the length of the window
    engine = Scripted(tokenizer, lambda frames, p, t: Drawn(words(tokenizer, said[frames]), -0.1, 0.0))
    clips = [noise(seconds, i) for i, seconds in enumerate((8.6, 1.5, 4.2, 1.7, 8.2, 4.5, 1.6))]
    heard = transcribe_all(engine, clips, WhisperOptions(padding_s=1.0, batch_size=2), "cs")
    assert [(shape[0], shape[2]) for shape, _, _ in engine.asked] == [(2, 400), (1, 400), (2, 600), (2, 1000)]
    assert [t.text for t in heard] == ["w302", "w300", "w301", "w300", "w302", "w301", "w300"]


def test_windows_with_as_much_text_before_them_are_decoded_together(tokenizer):
    texts = iter(["300", "300 301", "302", "303 304"])
    engine = Scripted(tokenizer, lambda n, p, t: Drawn(words(tokenizer, next(texts, "305")), -0.1, 0.0))
    clips = [noise(40.0, i) for i in range(4)]
    transcribe_all(engine, clips, WhisperOptions(condition_on_previous_text=True), "cs")
    assert [[len(p) for p in prompts] for _, prompts, _ in engine.asked] == [[3] * 4, [5] * 2, [6] * 2]


def test_long_clips_are_rejected_where_that_is_asked_for(tokenizer):
    engine = Scripted(tokenizer, lambda n, p, t: Drawn(words(tokenizer, "300"), -0.1, 0.0))
    long, short = transcribe_all(engine, [noise(30.1), noise(30.0)], WhisperOptions(over_30_s="reject"), "cs")
    assert (long.doubts, long.text, short.text) == (("over_30_s",), "", "w300")


@given(st.integers(1, 3000), st.none() | st.floats(0, 30))
def test_a_window_holds_its_clip_and_the_silence(frames, padding_s):
    window = window_frames(frames, padding_s)
    assert frames <= window <= 3000
    assert window == 3000 or window >= frames + round(100 * padding_s)


def test_compression_ratio_is_openais():
    assert compression_ratio("") == 0
    assert compression_ratio("la " * 200) > 2.4 > compression_ratio("The weather in London is very good today.")


FIRST = 1000  # the token of time 0


@pytest.mark.parametrize(
    ("tokens", "pieces", "go_on_s"),
    [
        ((7, 8), [Piece(0.0, 9.0, (7, 8))], None),  # no times
        ((1000, 7, 1050), [Piece(0.0, 1.0, (1000, 7, 1050))], None),  # one segment
        # two, and the second has no end: heard again
        ((1000, 7, 1050, 1060, 8), [Piece(0.0, 1.0, (1000, 7, 1050))], 1.0),
        (
            (1000, 7, 1050, 1060, 8, 1100),
            [Piece(0.0, 1.0, (1000, 7, 1050)), Piece(1.2, 2.0, (1060, 8, 1100))],
            None,
        ),
        ((1000, 1000, 7), [Piece(0.0, 0.0, (1000,))], None),  # would stand still
    ],
)
def test_times_split_a_window(tokens, pieces, go_on_s):
    found, at = split_by_timestamps(tokens, FIRST, 9.0)
    assert ([(p.tokens, p.start_s, p.end_s) for p in found], at) == (
        [(p.tokens, pytest.approx(p.start_s), pytest.approx(p.end_s)) for p in pieces],
        None if go_on_s is None else pytest.approx(go_on_s),
    )
