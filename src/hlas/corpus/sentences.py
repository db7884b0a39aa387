"""Sentences of the demo corpus: what is read aloud in each split, and more text for the language model.

Dev and test have words that neither the training clips nor the LM text hold, so that the share of unknown words, below
which no decoder with a closed vocabulary can go, is not zero.
"""

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from hlas.corpus.grammar import CLASSES, ODD_SENTENCES, PHRASES, TOPICS

MIN_WORDS, MAX_WORDS = 4, 10
HELD_OUT_SHARE = 0.06  # of the words of the classes
HELD_OUT_EVERY = 5  # every fifth sentence of dev and test has one held-out word: about 3 % of the words
ODD_EVERY = 40  # every fortieth sentence of train is an odd one, as long as there are any

_SLOT = re.compile(r"@(\w+)")


@dataclass(frozen=True, slots=True)
class Texts:
    """The sentences of each split, as a Common Voice reader would see them: cased, with punctuation."""

    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]
    lm: tuple[str, ...]  # extra text; shares no sentence with the splits
    held_out: frozenset[str]  # words that only dev and test have


def spelled(sentence: str) -> tuple[str, ...]:
    """The words of a sentence in lower case without punctuation; letters outside a–z stay."""
    return tuple(re.findall(r"[^\W_]+(?:'[^\W_]+)*", sentence.lower().replace("’", "'")))


class Deck:
    """Deals its cards in random order and shuffles only when all are dealt: small samples cover large classes."""

    def __init__(self, cards: Sequence[str], rng: random.Random) -> None:
        self._cards, self._rng = tuple(cards), rng
        self._left: list[str] = []

    def deal(self) -> str:
        """The next card."""
        if not self._left:
            self._left = self._rng.sample(self._cards, len(self._cards))
        return self._left.pop()


class SentenceMaker:
    """Makes sentences from the grammar; the same seed makes the same ones in the same order."""

    def __init__(self, seed: str, held_out: frozenset[str]) -> None:
        rng = random.Random(seed)
        self._rng = rng
        self._topics = Deck(tuple(TOPICS), rng)
        self._sentences = {name: Deck(choices, rng) for name, choices in TOPICS.items()}
        self._phrases = {name: Deck(choices, rng) for name, choices in PHRASES.items()}
        self._known = {name: Deck([w for w in words if w not in held_out], rng) for name, words in CLASSES.items()}
        kept_back = {name: [w for w in words if w in held_out] for name, words in CLASSES.items()}
        self._held_out = {name: Deck(words, rng) for name, words in kept_back.items() if words}

    def sentence(self, with_held_out: bool) -> str:
        """One sentence of MIN_WORDS to MAX_WORDS words, no word class giving the same word twice."""
        while True:
            pattern = self._expand(self._sentences[self._topics.deal()].deal())
            slots = _SLOT.findall(pattern)
            words = [self._known[name].deal() for name in slots]
            if with_held_out:
                places = [i for i, name in enumerate(slots) if name in self._held_out]
                if not places:
                    continue
                place = self._rng.choice(places)
                words[place] = self._held_out[slots[place]].deal()
            text = _finish(_fill(pattern, words))
            if len(set(words)) == len(words) and MIN_WORDS <= len(spelled(text)) <= MAX_WORDS:
                return text

    def _expand(self, pattern: str) -> str:
        """Replace the phrases, so that only word classes are left."""
        while any(name in PHRASES for name in _SLOT.findall(pattern)):
            pattern = _SLOT.sub(lambda m: self._phrases[m[1]].deal() if m[1] in PHRASES else m[0], pattern)
        return pattern


def _fill(pattern: str, words: Iterable[str]) -> str:
    remaining = iter(words)
    return _SLOT.sub(lambda _: next(remaining), pattern)


def _finish(text: str) -> str:
    """Articles, capitals and the closing mark."""
    text = re.sub(r"\ba (?=[aeiou]|honest)(?!uni|use)", "an ", text)
    text = re.sub(r"\bi\b", "I", text)
    text = text[0].upper() + text[1:]
    return text if text[-1] in "?!." else text + "."


def held_out_words(seed: int) -> frozenset[str]:
    """The words kept from training: a share of those that no pattern itself holds."""
    patterns = [choice for group in (PHRASES, TOPICS) for choices in group.values() for choice in choices]
    literal = {word for text in (*patterns, *ODD_SENTENCES) for word in spelled(_SLOT.sub("", text))}
    words = sorted({word for words in CLASSES.values() for word in words if word.lower() not in literal})
    return frozenset(random.Random(f"{seed}/held out").sample(words, round(HELD_OUT_SHARE * len(words))))


def make_texts(seed: int, counts: Mapping[str, int]) -> Texts:
    """Sentences for `train`, `dev`, `test` and `lm` (`counts`), no two alike.

    Dev and test do not depend on how many sentences train and the LM text have.
    """
    held_out = held_out_words(seed)
    seen: set[tuple[str, ...]] = set()

    def split(name: str, with_held_out: Callable[[int], bool]) -> tuple[str, ...]:
        maker = SentenceMaker(f"{seed}/{name}", held_out)
        sentences: list[str] = []
        while len(sentences) < counts[name]:
            sentence = maker.sentence(with_held_out(len(sentences)))
            if spelled(sentence) not in seen:
                seen.add(spelled(sentence))
                sentences.append(sentence)
        return tuple(sentences)

    test = split("test", lambda i: i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1)
    dev = split("dev", lambda i: i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1)
    train = list(split("train", lambda _: False))
    for place, sentence in zip(range(ODD_EVERY - 1, len(train), ODD_EVERY), ODD_SENTENCES, strict=False):
        train[place] = sentence
    lm = split("lm", lambda _: False)
    return Texts(tuple(train), dev, test, lm, held_out)
