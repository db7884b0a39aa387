"""A transcript -> the tokens that Whisper is to write: the prompt of its language, the text, the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hlas.models.whisper_engine import text_room


@dataclass(frozen=True)
class Spelling:
    """What NeMo's datasets call a tokenizer: text -> tokens, prompt and end included."""

    tokenizer: Any  # tokenizers.Tokenizer
    prompt: tuple[int, ...]
    end: int

    pad_id = 0  # of a batch; masked by the lengths, so any number

    @classmethod
    def of(cls, tokenizer: Any, languages: Sequence[str], language: str) -> "Spelling":
        """For a model that knows these languages; an English-only one is not told any."""
        from faster_whisper.tokenizer import Tokenizer

        tokens = Tokenizer(tokenizer, multilingual=False)
        told = [tokenizer.token_to_id(f"<|{language}|>"), tokens.transcribe] if len(languages) > 1 else []
        return cls(tokenizer, (tokens.sot, *told, tokens.no_timestamps), tokens.eot)

    def text_to_ids(self, text: str) -> list[int]:
        """Prompt, text, end. Whisper's texts begin with a space."""
        return [*self.prompt, *self.text_tokens(text), self.end]

    def text_tokens(self, text: str) -> list[int]:
        """The text alone."""
        ids: list[int] = self.tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """What those tokens say, special ones left out."""
        said: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return said.strip()

    @property
    def longest(self) -> int:
        """Tokens of the longest text that the model can write: room for the end is left."""
        return text_room(len(self.prompt)) - 1
