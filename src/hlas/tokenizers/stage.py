"""Stage `tokenizer`: text, or a model -> the labels of a CTC model (vocabulary.json, and SentencePiece's files)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hlas.errors import UserError
from hlas.files import read_json, write_json
from hlas.inputs import Inputs, Outside
from hlas.manifests.rows import read_manifest
from hlas.models.nemo_file import no_nemo_file
from hlas.stage import Stage, Summary

VOCABULARY = "vocabulary.json"


@dataclass(frozen=True)
class Params:
    """tokenizers/*.yaml."""

    type: Literal["char", "bpe", "unigram", "of_model"]
    vocab_size: int | None = None  # pieces, <unk> among them; for bpe and unigram only
    pretrained: str = ""  # a NeMo model name to take the labels of, in place of the input `model`; for of_model only

    def __post_init__(self) -> None:
        """Refuse a key that nothing would read, or a size missing where one is needed."""
        if self.type == "char" and self.vocab_size is not None:
            raise ValueError("a char tokenizer has no vocab_size: its labels are the characters of the text")
        if self.type == "of_model" and self.vocab_size is not None:
            raise ValueError("an of_model tokenizer has no vocab_size: its labels are the model's")
        if self.type in ("bpe", "unigram") and (self.vocab_size is None or self.vocab_size < 2):
            raise ValueError(f"a {self.type} tokenizer needs vocab_size, at least 2")
        if self.type != "of_model" and self.pretrained:
            raise ValueError(f"pretrained: the labels of a {self.type} tokenizer come from the text, not from a model")

    def check_inputs(self, inputs: Inputs) -> Iterator[UserError]:
        """Labels come from one place: the text, or one model, which is named by a file or by a name."""
        model = inputs.get("model", ())
        if self.type != "of_model":
            if model:
                problem = f"the labels of a {self.type} tokenizer come from the text, not from a model"
                yield UserError("model", problem, "leave it out, or say spec: tokenizers/of_model.yaml")
            if "text" not in inputs:
                yield UserError("text", f"a {self.type} tokenizer needs it", "add 'text: manifests.train'")
            return
        if model and self.pretrained:
            problem = f"the labels of two models: model {model[0]} and pretrained {self.pretrained}"
            yield UserError("pretrained", problem, "leave one of them out")
        if not model and not self.pretrained:
            problem = "no model to take the labels of"
            yield UserError("model", problem, "name a train stage or a .nemo file, or a NeMo model by 'pretrained'")
        for item in model:
            if isinstance(item, Outside) and item.path and (found := no_nemo_file(item.path)):
                yield UserError("model", *found)


@dataclass(frozen=True, slots=True)
class Labels:
    """What a model has to know of a finished tokenizer stage."""

    tokens: tuple[str, ...]
    unit: str  # 'char' | 'bpe' (SentencePiece pieces of either algorithm)
    folder: Path


def run(params: Params, stage: Stage) -> Summary:
    """Write vocabulary.json, for SentencePiece also tokenizer.model, tokenizer.vocab, vocab.txt."""
    texts = [row.text for item in stage.inputs.get("text", ()) for row in read_manifest(item.path)]
    if "text" in stage.inputs and not any(texts):
        raise UserError(stage.name, "the manifests hold no text", "check what the manifests stage kept")
    tokens, unit = _labels_of_model(params, stage) if params.type == "of_model" else _trained(params, texts, stage)
    write_json(stage.folder / VOCABULARY, {"unit": unit, "type": params.type, "tokens": tokens})
    summary = {"type": params.type, "labels": len(tokens), "transcripts": len(texts)}
    if params.type == "of_model":
        stage.log.info("%s: the model's %d labels", stage.name, len(tokens))
        return summary | {"unit": unit} | _spelling(texts, stage)
    stage.log.info("%s: %d labels from %d transcripts", stage.name, len(tokens), len(texts))
    return summary


def _trained(params: Params, texts: Sequence[str], stage: Stage) -> tuple[tuple[str, ...], str]:
    if params.vocab_size is None:
        from hlas.tokenizers.characters import character_labels

        return character_labels(texts), "char"
    from hlas.tokenizers.spm import train_sentencepiece

    return train_sentencepiece(texts, params.type, params.vocab_size, stage.folder), "bpe"


def _labels_of_model(params: Params, stage: Stage) -> tuple[tuple[str, ...], str]:
    from hlas.tokenizers.of_model import take_labels

    if model := stage.optional("model"):
        return take_labels(model.path, stage.folder, f"{stage.name}.model: {model.label}")
    from hlas.models.training.pretrained import pretrained_file

    path = pretrained_file(params.pretrained)
    return take_labels(path, stage.folder, f"{stage.name}.pretrained: {params.pretrained}")


def _spelling(texts: Sequence[str], stage: Stage) -> Summary:
    """How many of the texts a model's labels cannot spell: a training leaves them out, a recogniser never gets them."""
    from hlas.tokenizers.of_model import unspelled

    count, characters = unspelled(texts, read_labels(stage.folder))
    if count:
        problem = f"{count} of {len(texts)} transcripts have characters without a label: {characters[:40]}"
        if count == len(texts):
            raise UserError(f"{stage.name}.text", problem, "is it a model of this language, and in this script?")
        stage.log.warning("%s: %s", stage.name, problem)
    return {"no_label": count, "without_label": characters}


def read_labels(folder: Path) -> Labels:
    """Read what `run` wrote."""
    data = read_json(folder / VOCABULARY)
    return Labels(tuple(data["tokens"]), data["unit"], folder)
