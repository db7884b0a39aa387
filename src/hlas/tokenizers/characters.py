"""Character vocabularies: the labels of a character CTC model."""

from collections import Counter
from collections.abc import Iterable

from hlas.errors import UserError


def character_labels(texts: Iterable[str]) -> tuple[str, ...]:
    """The characters of normalised texts in code point order, the space first."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    counts.pop(" ", None)
    if not counts:
        raise UserError("tokenizer", "the text holds no characters", "check the manifest that the tokenizer reads")
    return (" ", *sorted(counts))
