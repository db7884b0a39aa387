"""Text as the tokens of a CTC model, in NeMo's encoding of subword LMs: token i is the character chr(i + 100).

A search that extends its hypotheses by tokens (`beam_batch`) is weighed by an LM whose words are those characters.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hlas.errors import UserError
from hlas.files import atomic_text
from hlas.line_blocks import BLOCK_BYTES, line_ranges
from hlas.parallel import map_chunks
from hlas.progress import track
from hlas.tokenizers.stage import Labels, read_labels

OFFSET = 100  # NeMo's DEFAULT_TOKEN_OFFSET
MAX_TOKENS = 0xD800 - OFFSET  # the code points beyond are no characters

Tokenize = Callable[[str], list[int] | None]


def encode(ids: Iterable[int]) -> str:
    """Token ids as one LM sentence."""
    return " ".join(chr(i + OFFSET) for i in ids)


def tokenizer_of(labels: Labels) -> Tokenize:
    """What turns normalised text into token ids, or into None where a character has no token."""
    if labels.unit == "char":
        ids = {token: i for i, token in enumerate(labels.tokens)}

        def characters(text: str) -> list[int] | None:
            found = [ids.get(c) for c in text]
            return None if None in found else [i for i in found if i is not None]

        return characters
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(labels.folder / "tokenizer.model"))
    unknown = processor.unk_id()

    def pieces(text: str) -> list[int] | None:
        found: list[int] = processor.encode(text)
        return None if unknown in found else found

    return pieces


def labels_of(folder: Path) -> Labels:
    """The labels of a tokenizer stage, checked to fit the encoding."""
    labels = read_labels(folder)
    if len(labels.tokens) > MAX_TOKENS:
        problem = f"{len(labels.tokens)} tokens: NeMo's encoding holds {MAX_TOKENS}"
        raise UserError(str(folder), problem, "use a smaller vocab_size, or a word LM")
    return labels


def encode_sentences(sentences: Iterable[str], labels: Labels) -> Iterator[str]:
    """LM sentences of normalised ones; those with a character that has no token are left out."""
    tokenize = tokenizer_of(labels)
    for sentence in sentences:
        if (ids := tokenize(sentence)) is not None:
            yield encode(ids)


def encode_file(text: Path, out: Path, labels: Labels, workers: int = 1) -> int:
    """Encode a file of normalised sentences; returns how many have no tokens and were left out."""
    ranges = list(line_ranges(text, BLOCK_BYTES))
    encoder = _BlockEncoder(text, labels)
    dropped = 0
    with atomic_text(out) as file:
        blocks = map_chunks(encoder, ranges, workers=workers, chunk_size=1)
        for block, without in track(blocks, "tokens", len(ranges), "blocks"):
            file.write(block)
            dropped += without
    return dropped


@dataclass(frozen=True, slots=True)
class _BlockEncoder:
    """Encodes byte ranges of a file, in whichever process."""

    path: Path
    labels: Labels

    def __call__(self, ranges: Sequence[tuple[int, int]]) -> list[tuple[str, int]]:
        tokenize = _cached_tokenizer(self.labels)
        out = []
        with self.path.open("rb") as file:
            for start, stop in ranges:
                file.seek(start)
                lines = file.read(stop - start).decode("utf-8").removesuffix("\n").split("\n")
                encoded = [encode(ids) for line in lines if (ids := tokenize(line)) is not None]
                out.append(("".join(f"{line}\n" for line in encoded), len(lines) - len(encoded)))
        return out


@lru_cache(maxsize=1)
def _cached_tokenizer(labels: Labels) -> Tokenize:
    return tokenizer_of(labels)
