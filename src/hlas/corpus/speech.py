"""Speech from text: espeak-ng in this process, voices of our own, background noise.

espeak-ng comes with the wheel `espeakng_loader`. A speaker is a voice of espeak-ng (a language, an accent) and a
variant file that we write: pitch and the frequencies of the formants, which stand for the length of the vocal tract.
"""

import _ctypes
import ctypes
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hlas.corpus.voices import data_folder, find_voice
from hlas.errors import UserError

Samples = npt.NDArray[np.int16]  # (samples,), mono
SAMPLE_RATE_HZ = 22050  # espeak-ng's own
ACCENTS = {"en-us": "United States English", "en": "England English"}  # voice: Common Voice's name of the accent
_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: espeak_Synth returns when the callback has had all samples
_UTF8 = 1  # espeakCHARS_UTF8
_DO_NOT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: without it bad data ends this process
_RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP = 1, 2, 3, 4, 7  # espeak_PARAMETER
_GAP = 3  # pause between words in units of 10 ms (at the default rate): without it Whisper hears far less
_MAX_DATA_PATH = 150  # espeak-ng keeps the path in 160 bytes
_SHARED_DATA = ("phondata", "phonindex", "phontab", "intonations")
_ALWAYS = ("en", "en-us")  # other voices turn to English for words of another script
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class Speaker:
    """A synthetic speaker."""

    name: str  # letters and digits: a file name
    accent: str  # a voice of espeak-ng, see `hlas.corpus.voices`
    gender: Literal["male", "female"]
    pitch_hz: float  # lowest of an average sentence
    pitch_span: float  # highest / lowest
    formants: float  # factor on all formant frequencies: above 1 a shorter vocal tract
    tilt: float  # factor on the height of the upper formants: a brighter or a duller voice
    rate_wpm: int  # words a minute

    def __post_init__(self) -> None:
        limits = {
            "pitch_hz": (50.0, 300.0),
            "pitch_span": (1.05, 2.0),
            "formants": (0.85, 1.25),
            "tilt": (0.5, 1.5),
            "rate_wpm": (80, 400),
        }
        for field, (low, high) in limits.items():
            if not low <= getattr(self, field) <= high:
                value = getattr(self, field)
                raise UserError(f"speaker {self.name}", f"{field} {value} is not in {low}–{high}")
        find_voice(self.accent)
        if not (self.name.isascii() and self.name.isalnum()):
            raise UserError(f"speaker {self.name!r}", "the name is not made of ASCII letters and digits")


def variant(speaker: Speaker) -> str:
    """The speaker's espeak-ng variant file.

    Frequency, height and width of each formant in percent. No `breath` and no `echo`: espeak-ng takes their noise from
    a generator that it seeds with the time of day.
    """
    low, high = speaker.pitch_hz, speaker.pitch_hz * speaker.pitch_span
    lines = ["language variant", f"name {speaker.name}", f"gender {speaker.gender}", f"pitch {low:.0f} {high:.0f}"]
    for formant in range(9):
        height = 100 if formant < 2 else 100 * speaker.tilt
        lines.append(f"formant {formant} {100 * speaker.formants:.0f} {height:.0f} 100")
    return "\n".join(lines) + "\n"


def write_voices(folder: Path, speakers: tuple[Speaker, ...]) -> None:
    """Write an espeak-ng data folder with English, the speakers' voices and variants into `folder` (a few MB)."""
    if len(str(folder)) > _MAX_DATA_PATH:
        raise UserError(str(folder), "too long a path for espeak-ng", "set TMPDIR to a folder with a shorter path")
    spoken = [find_voice(name) for name in sorted({*_ALWAYS, *(speaker.accent for speaker in speakers)})]
    for name in {*_SHARED_DATA, *(str(voice.file) for voice in spoken), *(voice.dictionary for voice in spoken)}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data_folder() / name, folder / name)
    variants = folder / "voices" / "!v"
    variants.mkdir(parents=True)
    for speaker in speakers:
        (variants / speaker.name).write_text(variant(speaker), encoding="ascii", newline="\n")


def speak(voices: Path, speaker: Speaker, text: str) -> Samples:
    """The text in the speaker's voice at SAMPLE_RATE_HZ; `voices` is what `write_voices` made.

    The same arguments give the same samples, whatever was said before.
    """
    import espeakng_loader

    pieces: list[bytes] = []

    def take(samples: Any, count: int, _events: int) -> int:
        if count > 0:
            pieces.append(ctypes.string_at(samples, 2 * count))
        return 0

    # espeak-ng carries the phase of its oscillators and its pitch flutter over to the next text and has no call that
    # resets them; a library that is loaded anew (3 ms) starts from zero
    library = _load(espeakng_loader.get_library_path())
    try:
        if library.espeak_Initialize(_SYNCHRONOUS, 0, str(voices).encode(), _DO_NOT_EXIT) != SAMPLE_RATE_HZ:
            raise UserError(str(voices), "espeak-ng cannot read its data", "reinstall espeakng-loader")
        callback: Callable[..., int] = _CALLBACK(take)
        library.espeak_SetSynthCallback(callback)
        voice = f"{speaker.accent}+{speaker.name}"
        if library.espeak_SetVoiceByName(voice.encode()):
            raise UserError(str(voices), f"espeak-ng has no voice {voice}")
        settings = {_RATE: speaker.rate_wpm, _VOLUME: 100, _PITCH: 50, _RANGE: 50, _WORD_GAP: _GAP}
        for parameter, value in settings.items():
            library.espeak_SetParameter(parameter, value, 0)
        data = text.encode() + b"\0"
        if status := library.espeak_Synth(data, len(data), 0, 1, 0, _UTF8, None, None):
            raise UserError(f"espeak-ng, {voice}", f"error {status} on the text {text!r}")
        library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)
    return np.frombuffer(b"".join(pieces), dtype=np.int16)


def _load(path: str) -> ctypes.CDLL:
    library = ctypes.CDLL(path)
    library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    library.espeak_SetSynthCallback.argtypes = [_CALLBACK]
    library.espeak_SetSynthCallback.restype = None
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_SetParameter.argtypes = [ctypes.c_int] * 3
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    return library


@dataclass(frozen=True, slots=True)
class Recording:
    """The room and the microphone of one clip."""

    noise: Literal["white", "pink"]
    snr_db: float  # speech to noise, both as mean power over the clip's speech
    level_dbfs: float  # root mean square of the speech
    lead_s: float  # noise only, before and after the speech
    trail_s: float
    seed: tuple[int, ...]  # of the noise


def record(speech: Samples, how: Recording, sample_rate_hz: int = SAMPLE_RATE_HZ) -> Samples:
    """The speech as a microphone takes it: at its level, between two pauses, in noise; no sample clips."""
    padding = (round(how.lead_s * sample_rate_hz), round(how.trail_s * sample_rate_hz))
    signal = np.pad(speech.astype(np.float64), padding)
    power = float(np.mean(np.square(speech.astype(np.float64)))) if speech.size else 0.0
    if power == 0.0:
        raise ValueError("no speech to record: no samples, or all zero")
    noise = _noise(how.noise, signal.size, np.random.default_rng(how.seed))
    mixed = signal / np.sqrt(power) + noise * 10 ** (-how.snr_db / 20)
    gain = min(10 ** (how.level_dbfs / 20), 0.97 / float(np.max(np.abs(mixed))))
    return np.asarray(np.round(mixed * gain * 32767), dtype=np.int16)


def _noise(colour: Literal["white", "pink"], size: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Noise of unit power, (size,); pink: power falls as 1 / frequency."""
    if colour == "white":
        noise = rng.standard_normal(size)
    else:
        whole = 1 << (size - 1).bit_length()  # a power of two: the transform of a prime length takes ten times as long
        spectrum = np.fft.rfft(rng.standard_normal(whole))
        spectrum[1:] /= np.sqrt(np.arange(1, spectrum.size))
        spectrum[0] = 0.0
        noise = np.fft.irfft(spectrum, whole)[:size]
    return np.asarray(noise / np.sqrt(np.mean(np.square(noise))))
