"""Stage `tokenizer`: manifest text -> the labels of a CTC model (vocabulary.json, and SentencePiece's files)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hlas.errors import UserError
from hlas.files import read_json, write_json
from hlas.manifests.rows import read_manifest
from hlas.stage import Stage, Summary

VOCABULARY = "vocabulary.json"


@dataclass(frozen=True)
class Params:
    """tokenizers/*.yaml."""

    type: Literal["char", "bpe", "unigram"]
    vocab_size: int | None = None  # pieces, <unk> among them; for bpe and unigram only

    def __post_init__(self) -> None:
        """Refuse a size that nothing would read, or none where one is needed."""
        if self.type == "char" and self.vocab_size is not None:
            raise ValueError("a char tokenizer has no vocab_size: its labels are the characters of the text")
        if self.type != "char" and (self.vocab_size is None or self.vocab_size < 2):
            raise ValueError(f"a {self.type} tokenizer needs vocab_size, at least 2")


@dataclass(frozen=True, slots=True)
class Labels:
    """What a model has to know of a finished tokenizer stage."""

    tokens: tuple[str, ...]
    unit: str  # 'char' | 'bpe' (SentencePiece pieces of either algorithm)
    folder: Path


def run(params: Params, stage: Stage) -> Summary:
    """Write vocabulary.json, for SentencePiece also tokenizer.model, tokenizer.vocab, vocab.txt."""
    texts = [row.text for item in stage.inputs["text"] for row in read_manifest(item.path)]
    if not any(texts):
        raise UserError(stage.name, "the manifests hold no text", "check what the manifests stage kept")
    if params.vocab_size is None:
        from hlas.tokenizers.characters import character_labels

        tokens, unit = character_labels(texts), "char"
    else:
        from hlas.tokenizers.spm import train_sentencepiece

        tokens, unit = train_sentencepiece(texts, params.type, params.vocab_size, stage.folder), "bpe"
    write_json(stage.folder / VOCABULARY, {"unit": unit, "type": params.type, "tokens": tokens})
    stage.log.info("%s: %d labels from %d transcripts", stage.name, len(tokens), len(texts))
    return {"type": params.type, "labels": len(tokens), "transcripts": len(texts)}


def read_labels(folder: Path) -> Labels:
    """Read what `run` wrote."""
    data = read_json(folder / VOCABULARY)
    return Labels(tuple(data["tokens"]), data["unit"], folder)
