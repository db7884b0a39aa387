"""Who reads which sentence of a spoken corpus, in which room, and which rows are damaged."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from hlas.corpus.release import Clip, Damage
from hlas.corpus.sentences import Texts
from hlas.corpus.speech import Recording, Speaker

FIRST_CLIP_NUMBER = 10_000_001
# two in three American: Whisper makes a third more errors of espeak-ng's British voice, and twice as many of the others
ENGLISH_IN_TURN = ("en-us", "en-us", "en")
AGES = ("", "teens", "twenties", "thirties", "fourties", "fifties", "sixties")  # as Common Voice spells them
SPLITS = ("test", "dev", "train")  # in the order of the clips' numbers: the clips of test do not depend on train's


@dataclass(frozen=True, slots=True)
class Plan:
    """What the clips are made by."""

    seed: int
    speakers: Mapping[str, int]  # split -> how many, none of them in another split
    snr_db: tuple[float, float]  # lowest, highest
    level_dbfs: tuple[float, float]
    accents: tuple[str, ...] = ENGLISH_IN_TURN  # voices of espeak-ng


@dataclass(frozen=True, slots=True)
class Reader:
    """A speaker with what the tables say of them."""

    speaker: Speaker
    age: str


def make_readers(split: str, count: int, rng: random.Random, accents: Sequence[str]) -> tuple[Reader, ...]:
    """Speakers of one split: men and women in turn, accents in turn, the rest of the voice by chance."""
    readers = []
    for i in range(count):
        woman = i % 2 == 1
        speaker = Speaker(
            name=f"{split}{i:03d}",
            accent=accents[i // 2 % len(accents)],
            gender="female" if woman else "male",
            pitch_hz=round(rng.uniform(135, 175) if woman else rng.uniform(75, 115), 1),
            pitch_span=round(rng.uniform(1.2, 1.5), 2),
            formants=round(rng.uniform(1.02, 1.08) if woman else rng.uniform(0.95, 1.01), 3),
            tilt=round(rng.uniform(0.85, 1.1), 2),
            rate_wpm=rng.randint(145, 170),
        )
        readers.append(Reader(speaker, rng.choice(AGES)))
    return tuple(readers)


def plan_clips(plan: Plan, texts: Texts, defects: Sequence[str]) -> list[Clip]:
    """Every clip of the release, in the order of its number.

    Each of `defects` is given to one train clip, spread over the table from its first row on. If there are any, the
    release also has rows of no split: repeats that are only in validated, clips nobody or too few voted for.
    """
    clips: list[Clip] = []

    def add(tables: tuple[str, ...], reader: Reader, sentence: str, up_votes: int = 2, down_votes: int = 0) -> None:
        number = FIRST_CLIP_NUMBER + len(clips)
        recording = _recording(plan, random.Random(f"{plan.seed}/clip {number}"), number)
        who, age = reader.speaker, reader.age
        clips.append(Clip(number, tables, who, age, sentence, sentence, recording, up_votes, down_votes))

    readers: dict[str, tuple[Reader, ...]] = {}
    for split in SPLITS:
        rng = random.Random(f"{plan.seed}/{split} speakers")
        readers[split] = make_readers(split, plan.speakers[split], rng, plan.accents)
        for i, sentence in enumerate(getattr(texts, split)):
            count = len(readers[split])  # in turn, each round one later: every fifth sentence falls to every speaker
            add((split, "validated"), readers[split][(i + i // count) % count], sentence)
    if defects:
        first_train = len(texts.test) + len(texts.dev)
        step = len(texts.train) // len(defects)
        for i, defect in enumerate(defects):
            clips[first_train + i * step] = _damage(clips[first_train + i * step], defect)
        # whoever trains on `validated` must leave out dev's and test's speakers and sentences
        add(("validated",), readers["train"][0], texts.test[0])
        add(("validated",), readers["train"][-1], texts.dev[0])
        add(("validated",), readers["test"][0], texts.train[-1])
        add(("validated",), readers["train"][0], texts.train[-1])
        add(("other",), readers["train"][0], texts.train[-2], up_votes=1)
        add(("other",), readers["train"][-1], texts.train[-2], up_votes=0)
        add(("invalidated",), readers["dev"][0], texts.train[-1], up_votes=0, down_votes=2)
    return clips


def _damage(clip: Clip, defect: str) -> Clip:
    if defect == "lone_quote":
        return replace(clip, sentence='"' + clip.sentence)
    if defect == "empty_sentence":
        return replace(clip, sentence="")
    for damage in get_args(Damage):
        if damage == defect:
            return replace(clip, damage=damage)
    raise ValueError(f"no defect '{defect}'")


def _recording(plan: Plan, rng: random.Random, number: int) -> Recording:
    return Recording(
        noise="pink" if rng.random() < 0.8 else "white",  # white covers the consonants, as rooms seldom do
        snr_db=round(rng.uniform(*plan.snr_db), 1),
        level_dbfs=round(rng.uniform(*plan.level_dbfs), 1),
        lead_s=round(rng.uniform(0.05, 0.35), 3),
        trail_s=round(rng.uniform(0.05, 0.25), 3),
        seed=(plan.seed, number),
    )
