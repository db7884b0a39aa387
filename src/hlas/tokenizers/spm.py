"""SentencePiece tokenizers in the folder form that NeMo reads: tokenizer.model, tokenizer.vocab, vocab.txt."""

import io
import re
from collections.abc import Iterable
from pathlib import Path

from hlas.errors import UserError
from hlas.files import atomic_text

UNKNOWN = "<unk>"


def train_sentencepiece(texts: Iterable[str], model_type: str, vocab_size: int, folder: Path) -> tuple[str, ...]:
    """Train a tokenizer on normalised texts and write its files; returns the pieces in id order.

    The text is taken as it is (`identity`): the language's own rules have normalised it already. Every character is
    covered; there are no sentence marks, as a CTC model has no use for them. Same text, same pieces.
    """
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type=model_type,
            vocab_size=vocab_size,
            character_coverage=1.0,
            normalization_rule_name="identity",
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            unk_id=0,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise _explained(error, vocab_size) from error
    return write_sentencepiece(model.getvalue(), folder)


def write_sentencepiece(model: bytes, folder: Path) -> tuple[str, ...]:
    """Write a SentencePiece model's files into the folder; returns the pieces in id order.

    Raises ValueError where the bytes are no such model.
    """
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.load_from_serialized_proto(model)
    except RuntimeError as error:
        raise ValueError("not a SentencePiece model") from error
    pieces = tuple(processor.id_to_piece(i) for i in range(processor.get_piece_size()))
    (folder / "tokenizer.model").write_bytes(model)
    with atomic_text(folder / "tokenizer.vocab") as file:
        file.writelines(f"{piece}\t{processor.get_score(i):.6g}\n" for i, piece in enumerate(pieces))
    with atomic_text(folder / "vocab.txt") as file:
        file.writelines(f"{piece}\n" for piece in pieces if piece != UNKNOWN)
    return pieces


def _explained(error: Exception, vocab_size: int) -> UserError:
    text = str(error)
    where = f"tokenizer: vocab_size {vocab_size}"
    if found := re.search(r"<= (\d+)", text):
        return UserError(
            where, f"too many pieces for so little text (at most {found[1]})", f"set vocab_size to {found[1]} or less"
        )
    if "required_chars" in text or "smaller than" in text:
        return UserError(where, "fewer pieces than the text has characters", "raise vocab_size")
    return UserError(where, f"SentencePiece: {text.splitlines()[0]}", "check the text that the tokenizer reads")
