"""Log-probs of random sentences, for the benches: characters or BPE pieces, peaky or noisy, and an LM of the language.

"Noisy" is what a weak model gives and the case that matters: on peaky log-probs most labels are pruned, and the width
hardly counts.
"""

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hlas.decode.logprobs import Array, Vocabulary, log_probs_writer, write_vocabulary
from hlas.lm import ngram
from hlas.manifests.rows import Row

LETTERS = "abcdefghijklmnopqrstuvwxyzäöüčšž"
FRAMES_A_LABEL = 3
NOISE = {"peaky": 1.0, "noisy": 2.4}  # standard deviation of the noise on the logits
MARGIN = 9.0  # of the true label's logit over the others, among as many labels as the characters are


@dataclass(frozen=True)
class Language:
    """A language of random words: its labels, its text, and how a sentence is written in labels."""

    vocabulary: Vocabulary
    texts: list[str]
    encode: Callable[[str], list[int]]


def sentences(count: int, rng: np.random.Generator) -> list[str]:
    """Random sentences of a 5000-word language with Zipf's frequencies."""
    letters = np.array(list(LETTERS))
    words = ["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(5000)]
    p = 1 / np.arange(1, len(words) + 1)
    return [" ".join(rng.choice(words, rng.integers(5, 12), p=p / p.sum())) for _ in range(count)]


def make_language(pieces: int, rng: np.random.Generator, texts: int = 20_000) -> Language:
    """A language in characters (`pieces` = 0) or in so many BPE pieces, the bare '▁' among them."""
    written = sentences(texts, rng)
    if not pieces:
        characters = Vocabulary((*LETTERS, " "), "char", 0.02)
        return Language(characters, written, lambda text: [characters.tokens.index(c) for c in text])
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(written),
        model_writer=model,
        model_type="bpe",
        vocab_size=pieces,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    tokens = tuple(processor.id_to_piece(i) for i in range(processor.get_piece_size()))
    return Language(Vocabulary(tokens, "bpe", 0.04), written, processor.encode)


def frames_of(labels: list[int], columns: int, noise: float, rng: np.random.Generator) -> Array:
    """Log-probs in which each label is one frame and blanks follow: (frames, columns)."""
    path = np.full(FRAMES_A_LABEL * len(labels), columns - 1)
    path[::FRAMES_A_LABEL] = labels
    logits = rng.normal(scale=noise, size=(len(path), columns))
    # as much probability beside the true label whatever the number of labels
    logits[np.arange(len(path)), path] += MARGIN + math.log(columns / (len(LETTERS) + 2))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))  # type: ignore[no-any-return]  # numpy's operators


def rows_of(language: Language, utterances: int, noise: float, rng: np.random.Generator) -> Iterator[tuple[Row, Array]]:
    """Utterances of the language's text, as manifest rows with log-probs."""
    columns = len(language.vocabulary.tokens) + 1
    for i in range(utterances):
        text = language.texts[i % len(language.texts)]
        frames = frames_of(language.encode(text), columns, noise, rng)
        yield Row(f"{i}.wav", len(frames) * language.vocabulary.frame_s, text), frames


def write_splits(folder: Path, language: Language, utterances: int, rng: np.random.Generator) -> None:
    """Log-probs of `utterances` sentences as the splits 'peaky' and 'noisy'."""
    folder.mkdir(parents=True, exist_ok=True)
    write_vocabulary(folder, language.vocabulary)
    for split, noise in NOISE.items():
        with log_probs_writer(folder, split, len(language.vocabulary.tokens) + 1) as append:
            for row, frames in rows_of(language, utterances, noise, rng):
                append(row, frames)


def write_lm(folder: Path, texts: list[str], order: int = 3) -> ngram.LmFiles:
    """A word LM of the texts."""
    folder.mkdir(parents=True, exist_ok=True)
    kenlm = ngram.find_kenlm()
    (folder / "text").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    arpa = ngram.lm_file(folder, "arpa")
    ngram.count_ngrams(kenlm, folder / "text", arpa, order=order)
    ngram.build_binary(kenlm, arpa, ngram.lm_file(folder, "binary"))
    ngram.write_words(ngram.lm_file(folder, "unigrams"), ngram.read_words(arpa))
    return ngram.find_lm(folder)
