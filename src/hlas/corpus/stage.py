"""Stage `corpus`: a corpus that this machine speaks itself, so that a recipe runs anywhere, offline.

espeak-ng reads the sentences of a grammar in English, or those of `text` with the voice of their language.

`release/`     a Common Voice locale folder, what `manifests` reads
`lm_text.txt`  one sentence a line for the language model, none of which is spoken
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hlas.corpus.sentences import Texts, make_texts, spelled
from hlas.corpus.text_file import deal_sentences, find_sentences
from hlas.corpus.voices import find_voice
from hlas.errors import UserError
from hlas.files import atomic_text
from hlas.stage import Stage, Summary

RELEASE, LM_TEXT = "release", "lm_text.txt"
SPLITS = ("train", "dev", "test")
DEFECTS = ("lone_quote", "empty_file", "truncated", "missing", "empty_sentence")  # of one train row each


@dataclass(frozen=True, slots=True)
class Params:
    """What the corpus is made of."""

    seed: int = 1  # the same seed makes the same files, byte for byte
    train_clips: int = 800  # about 3 s each
    dev_clips: int = 80
    test_clips: int = 100
    train_speakers: int = 32  # no speaker is in two splits
    dev_speakers: int = 8
    test_speakers: int = 10
    lm_sentences: int = 4000  # of a text: at most, from what the clips leave
    voice: str = ""  # espeak-ng's, of the language that `text` is in; the grammar's sentences have English ones
    snr_db: tuple[float, float] = (20.0, 40.0)  # speech to background noise, lowest and highest
    level_dbfs: tuple[float, float] = (-30.0, -18.0)  # root mean square of the speech
    defects: bool = True  # damage some rows of train, and add rows of no split, as real releases have them

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        for split in SPLITS:
            clips, speakers = getattr(self, f"{split}_clips"), getattr(self, f"{split}_speakers")
            if not 1 <= speakers <= clips:
                raise ValueError(f"{split}_speakers is not between 1 and {split}_clips, {clips}")
        if self.lm_sentences < 0:
            raise ValueError("lm_sentences is negative")
        if self.snr_db[0] > self.snr_db[1] or self.level_dbfs[0] > self.level_dbfs[1]:
            raise ValueError("the first value of a range is its lowest")
        if self.level_dbfs[1] > 0:
            raise ValueError("level_dbfs is above 0, the loudest there is")
        if self.defects and self.train_clips < len(DEFECTS):
            raise ValueError(f"defects need {len(DEFECTS)} train_clips; set defects: false")
        if self.voice:
            try:
                find_voice(self.voice)
            except UserError as error:
                raise ValueError(f"espeak-ng has {error.problem}; {error.fix}") from error


def run(params: Params, stage: Stage) -> Summary:
    """Make the corpus in the stage's folder."""
    text = stage.optional("text")
    if text and not params.voice:
        fix = "add the voice of the language that the text is in, as 'voice: cs'"
        raise UserError(f"{stage.name}.voice", "a text without a voice to read it", fix)
    if params.voice and not text:
        fix = "add 'text: FILE', or leave the voice out: the grammar's sentences are English"
        raise UserError(f"{stage.name}.text", f"a voice, '{params.voice}', without a text", fix)
    summary = (
        make_spoken(stage.folder, params, text.path, stage.workers)
        if text
        else make_demo(stage.folder, params, stage.workers)
    )
    stage.log.info("%(clips)d clips, %(minutes).1f minutes, %(word_types)d words", summary["counts"])
    return summary


def make_demo(folder: Path, params: Params, workers: int) -> Summary:
    """Write release/ and lm_text.txt of the grammar's sentences into `folder`.

    The summary says what there is, damaged clips included.

    Raises:
        UserError: `folder` has a release already.

    """
    from hlas.corpus.casting import ENGLISH_IN_TURN

    return _make(folder, params, make_texts(params.seed, _counts(params)), ENGLISH_IN_TURN, workers)


def make_spoken(folder: Path, params: Params, text: Path, workers: int) -> Summary:
    """The same of the sentences of a text file, read by `params.voice`.

    Raises:
        UserError: `folder` has a release already; the text has too few sentences.

    """
    found = find_sentences(text)
    texts = deal_sentences(found, text, params.seed, _counts(params))
    summary = _make(folder, params, texts, (params.voice,), workers)
    return summary | {"text": {"read": found.read, "usable": len(found.usable), "dropped": dict(found.dropped)}}


def _counts(params: Params) -> dict[str, int]:
    return {split: getattr(params, f"{split}_clips") for split in SPLITS} | {"lm": params.lm_sentences}


def _make(folder: Path, params: Params, texts: Texts, accents: tuple[str, ...], workers: int) -> Summary:
    from hlas.corpus.casting import Plan, plan_clips
    from hlas.corpus.release import write_release

    if (folder / RELEASE).exists():
        raise UserError(str(folder / RELEASE), "there is something already", "give another folder, or remove it")
    speakers = {split: getattr(params, f"{split}_speakers") for split in SPLITS}
    plan = Plan(params.seed, speakers, params.snr_db, params.level_dbfs, accents)
    clips = plan_clips(plan, texts, DEFECTS if params.defects else ())
    made = write_release(folder / RELEASE, clips, workers)
    with atomic_text(folder / LM_TEXT) as file:
        file.writelines(sentence + "\n" for sentence in texts.lm)

    milliseconds: Counter[str] = Counter()
    for clip, result in zip(clips, made, strict=True):
        milliseconds[clip.tables[0]] += result.duration_ms
    spoken = {word for split in (texts.train, texts.dev, texts.test) for s in split for word in spelled(s)}
    known = {word for split in (texts.train, texts.lm) for s in split for word in spelled(s)}
    test_words = [word for s in texts.test for word in spelled(s)]
    return {
        "counts": {
            "clips": len(clips),
            "minutes": _minutes(milliseconds.total()),
            "word_types": len(spoken),
            "lm_sentences": len(texts.lm),
        },
        "splits": {
            split: {
                "clips": len(getattr(texts, split)),
                "minutes": _minutes(milliseconds[split]),
                "speakers": getattr(params, f"{split}_speakers"),
            }
            for split in SPLITS
        },
        "defects": list(DEFECTS) if params.defects else [],
        "mp3_mb": round(sum(result.file_bytes for result in made) / 1e6, 2),
        "test_oov": round(sum(word not in known for word in test_words) / len(test_words), 4),
    }


def _minutes(milliseconds: int) -> float:
    return round(milliseconds / 60_000, 2)
