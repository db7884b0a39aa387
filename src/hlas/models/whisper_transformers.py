"""Whisper by `transformers`: fused attention (SDPA), a static key-value cache, greedy or beam search.

`transformers`' own generation loop draws the tokens; windows, prompts and fallback are those of hlas.models.
whisper_decoding, as for the other engine, so that the two differ in nothing but their arithmetic.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor, LogitsProcessorList
from transformers import WhisperForConditionalGeneration as WhisperModel
from transformers.generation import logits_process
from transformers.modeling_outputs import BaseModelOutput

from hlas.errors import UserError
from hlas.models.transformers_quiet import quieten
from hlas.models.whisper_ctranslate2 import suppressed_tokens
from hlas.models.whisper_engine import FIRST_TIMESTAMP_MAX, MULTILINGUAL_TOKENS, SEED, Drawn, text_room
from hlas.models.whisper_languages import known_to
from hlas.models.whisper_options import WhisperOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class TransformersEngine:
    """A Hugging Face folder, loaded; an `Engine`."""

    def __init__(self, folder: Path, options: WhisperOptions, threads: int) -> None:
        """Load; 0 threads: torch's choice. UserError where the folder cannot be loaded, or not be run as asked."""
        self._options = options
        here = torch.cuda.is_available()
        if options.device == "cuda" and not here:
            raise UserError("device: cuda", "there is no GPU that torch can use", "set device: cpu")
        self.device: Literal["cpu", "cuda"] = "cuda" if here and options.device != "cpu" else "cpu"
        natural = "float16" if self.device == "cuda" else "float32"
        self.compute_type = natural if options.compute_type == "auto" else options.compute_type
        self._threads = threads
        self._model: Any = load_whisper(folder, getattr(torch, self.compute_type))
        self.tokenizer = read_tokenizer(folder)
        self._model.to(self.device).eval()
        self._read_model()
        torch.manual_seed(SEED)

    @classmethod
    def around(cls, model: Any, tokenizer: Any, options: WhisperOptions) -> "TransformersEngine":
        """An engine that draws from a model as it is at the time, e.g. while it is trained; on the device it is on."""
        engine = cls.__new__(cls)
        engine._options, engine._model, engine.tokenizer, engine._threads = options, model, tokenizer, 0
        engine.compute_type = str(model.dtype).removeprefix("torch.")
        engine._read_model()
        return engine

    @contextmanager
    def _own_threads(self) -> Iterator[None]:
        """The threads that were asked for; what else this process computes, another stage's training, keeps its own."""
        before = torch.get_num_threads()
        if self._threads:
            torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _read_model(self) -> None:
        self.mels = int(self._model.config.num_mel_bins)
        self.languages = known_to(self.tokenizer) if self._model.config.vocab_size >= MULTILINGUAL_TOKENS else ("en",)
        self._end = _id(self.tokenizer, "<|endoftext|>")
        own = self._model.generation_config
        self._suppressed = suppressed_tokens(self.tokenizer)
        blank = self.tokenizer.encode(" ", add_special_tokens=False).ids
        self._suppressed_first = list(own.begin_suppress_tokens or [*blank, self._end])
        self._model.generation_config = GenerationConfig()  # else what it says is added to what is asked for

    def encode(self, features: "npt.NDArray[np.float32]") -> torch.Tensor:
        """Encode (windows, mels, frames) -> (windows, frames / 2, width); as the model's own, but of any length."""
        encoder = self._model.model.encoder
        with self._own_threads(), torch.inference_mode():
            x = torch.from_numpy(features).to(self._model.device, self._model.dtype)
            x = nn.functional.gelu(encoder.conv2(nn.functional.gelu(encoder.conv1(x)))).transpose(1, 2)
            x = x + encoder.embed_positions.weight[: x.shape[1]]
            for layer in encoder.layers:
                x = layer(x, None)
            out: torch.Tensor = encoder.layer_norm(x)
        return out

    def pick(self, encoded: torch.Tensor, windows: Sequence[int]) -> torch.Tensor:
        """The same for some of the windows only."""
        return encoded[list(windows)]

    def guess(self, encoded: torch.Tensor) -> list[str]:
        """The likeliest language's code for each window."""
        if len(self.languages) == 1:
            return list(self.languages) * len(encoded)
        ids = [_id(self.tokenizer, f"<|{code}|>") for code in self.languages]
        with self._own_threads():
            best = self._after_start(encoded)[:, ids].argmax(dim=1)
        return [self.languages[i] for i in best.tolist()]

    def draw(self, encoded: torch.Tensor, prompts: Sequence[Sequence[int]], temperature: float) -> list[Drawn]:
        """A text for each window; of samples the most probable one."""
        with self._own_threads():
            return self._draw(encoded, prompts, temperature)

    def _draw(self, encoded: torch.Tensor, prompts: Sequence[Sequence[int]], temperature: float) -> list[Drawn]:
        options, asked = self._options, torch.tensor([list(prompt) for prompt in prompts], device=self._model.device)
        sampled = temperature > 0
        drawn = options.best_of if sampled else options.beam_size  # texts of a window
        search: dict[str, Any] = {"do_sample": sampled}
        logprobs: _LogProbs | _BeamLogProbs = _LogProbs(self._end)
        if sampled:
            search["top_k"] = 0  # draw from all tokens
        elif drawn > 1:  # until so many texts have ended, as in OpenAI's program and in CTranslate2
            search |= {"num_beams": drawn, "early_stopping": True}
            logprobs = _BeamLogProbs(self._end, drawn)
        made: Any = GenerationMixin.generate(
            self._model,
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            decoder_input_ids=asked,
            decoder_attention_mask=torch.ones_like(asked),
            logits_processor=LogitsProcessorList(self._rules(prompts[0], temperature, logprobs)),
            generation_config=GenerationConfig(
                eos_token_id=self._end,
                pad_token_id=self._end,
                bos_token_id=self._end,
                decoder_start_token_id=int(asked[0, 0]),
                max_new_tokens=text_room(asked.shape[1]),
                num_return_sequences=drawn,
                cache_implementation="static",
                return_dict_in_generate=True,
                output_scores=False,
                **search,
            ),
        )
        silence = self._no_speech(encoded)
        sums = logprobs.sums(made.sequences, asked.shape[1]).tolist()
        rows = made.sequences[:, asked.shape[1] :].tolist()
        texts = [tuple(takewhile(lambda token: token != self._end, row)) for row in rows]
        out = []
        for window in range(len(encoded)):
            of_it = range(window * drawn, (window + 1) * drawn)
            # the end counts for the sum and not for the length, as in OpenAI's program and in CTranslate2
            best = max(of_it, key=lambda row: sums[row] / len(texts[row]) if texts[row] else -math.inf)
            out.append(Drawn(texts[best], sums[best] / (len(texts[best]) + 1), silence[window]))
        return out

    def _rules(self, prompt: Sequence[int], temperature: float, logprobs: LogitsProcessor) -> list[LogitsProcessor]:
        """What a token must obey, in the order in which CTranslate2 applies it."""
        options, length = self._options, len(prompt)
        rules: list[LogitsProcessor] = []
        if options.repetition_penalty != 1:
            penalty = logits_process.RepetitionPenaltyLogitsProcessor(options.repetition_penalty, length)
            rules.append(penalty)
        if options.no_repeat_ngram_size:
            rules.append(_NoRepeat(options.no_repeat_ngram_size, length))
        rules.append(logits_process.SuppressTokensAtBeginLogitsProcessor(self._suppressed_first, length))
        rules.append(logits_process.SuppressTokensLogitsProcessor(self._suppressed))
        no_timestamps = _id(self.tokenizer, "<|notimestamps|>")
        if no_timestamps not in prompt:
            times = GenerationConfig(
                no_timestamps_token_id=no_timestamps,
                eos_token_id=self._end,
                bos_token_id=self._end,
                max_initial_timestamp_index=FIRST_TIMESTAMP_MAX,
            )
            rules.append(logits_process.WhisperTimeStampLogitsProcessor(times, begin_index=length))
        rules.append(logprobs)
        if temperature > 0:
            rules.append(logits_process.TemperatureLogitsWarper(temperature))
        return rules

    def _after_start(self, encoded: torch.Tensor) -> torch.Tensor:
        """Logits (windows, vocabulary) of what follows the start of the transcript."""
        start = torch.full((len(encoded), 1), _id(self.tokenizer, "<|startoftranscript|>"), device=self._model.device)
        return self._logits(encoded, start)[:, 0]

    def _logits(self, encoded: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Logits (windows, tokens, vocabulary) of what follows each of the ids (windows, tokens)."""
        with torch.inference_mode():
            made = self._model(encoder_outputs=BaseModelOutput(last_hidden_state=encoded), decoder_input_ids=ids)
            logits: torch.Tensor = made.logits.float()
        return logits

    def _no_speech(self, encoded: torch.Tensor) -> list[float]:
        token = self.tokenizer.token_to_id("<|nospeech|>") or _id(self.tokenizer, "<|nocaptions|>")
        probabilities: list[float] = self._after_start(encoded).softmax(dim=1)[:, token].tolist()
        return probabilities


class _LogProbs(LogitsProcessor):  # type: ignore[misc]  # transformers has no types
    """Adds up the log probabilities of what is drawn, before the temperature; holds one step, not all of them."""

    def __init__(self, end: int) -> None:
        self._end = end
        self._last: torch.Tensor | None = None  # (rows, vocabulary), of the step before
        self._sum: torch.Tensor | None = None  # (rows,)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Pass the scores (rows, vocabulary) on as they are."""
        self._add(input_ids)
        self._last = scores.float().log_softmax(dim=-1)
        return scores

    def sums(self, sequences: torch.Tensor, prompt_tokens: int) -> torch.Tensor:
        """Of the finished sequences (rows, prompt and text), (rows,); the end counts."""
        self._add(sequences)
        assert self._sum is not None
        return self._sum

    def _add(self, ids: torch.Tensor) -> None:
        if self._last is None:
            return
        chosen = self._last.gather(1, ids[:, -1:])[:, 0]
        # after its end a row is filled up
        self._sum = chosen if self._sum is None else self._sum + chosen.where(ids[:, -2] != self._end, 0.0)


class _BeamLogProbs(LogitsProcessor):  # type: ignore[misc]  # transformers has no types
    """The same in a beam search, whose rows change places; its scores are normalised anew, as the rules need it."""

    def __init__(self, end: int, beams: int) -> None:
        self._end, self._beams = end, beams
        self._last = torch.zeros(0)  # (rows, vocabulary), of the step before
        # of each step: rows (rows, tokens), their log probability and that of the end after it, both (rows,)
        self._steps: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Normalise the scores (rows, vocabulary)."""
        scores = scores.float().log_softmax(dim=-1)
        sums = self._followed(input_ids) if self._steps else torch.zeros_like(scores[:, 0])
        self._steps.append((input_ids, sums, sums + scores[:, self._end]))
        self._last = scores
        return scores

    def sums(self, sequences: torch.Tensor, prompt_tokens: int) -> torch.Tensor:
        """Of the finished sequences (rows, prompt and text), (rows,); the end counts."""
        lengths = (sequences[:, prompt_tokens:] != self._end).sum(dim=1).tolist()
        found = []
        for row, length in enumerate(lengths):
            if length == len(self._steps):  # cut off after the last step
                found.append(self._followed(sequences)[row])
            else:
                before, _, ended = self._steps[length]
                found.append(ended[self._parents(sequences[:, : before.shape[1]], before)[row]])
        return torch.stack(found)

    def _followed(self, ids: torch.Tensor) -> torch.Tensor:
        """Log probabilities (rows,) of rows that are each a row of the last step and a token."""
        before, sums, _ = self._steps[-1]
        parents = self._parents(ids[:, :-1], before)
        return sums[parents] + self._last[parents].gather(1, ids[:, -1:])[:, 0]

    def _parents(self, ids: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
        """For each row (rows,) the row that is the same among those of its window."""
        ours, theirs = (x.unflatten(0, (-1, self._beams)) for x in (ids, among))
        same = (ours[:, :, None] == theirs[:, None]).all(dim=-1)  # (windows, beams, beams)
        first = torch.arange(0, len(ids), self._beams, device=ids.device)
        return (same.int().argmax(dim=-1) + first[:, None]).flatten()


class _NoRepeat(LogitsProcessor):  # type: ignore[misc]  # transformers has no types
    """No n tokens in a row twice; the prompt's tokens do not count, as in CTranslate2."""

    def __init__(self, size: int, prompt_tokens: int) -> None:
        self._rule = logits_process.NoRepeatNGramLogitsProcessor(size)
        self._prompt_tokens = prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Forbid in the scores (rows, vocabulary) what would repeat."""
        out: torch.Tensor = self._rule(input_ids[:, self._prompt_tokens :], scores)
        return out


def load_whisper(folder: Path, dtype: torch.dtype, **config: Any) -> Any:
    """The model of a Hugging Face folder, `config` laid over its own. UserError where it is not whole."""
    from safetensors import SafetensorError

    quieten()
    try:
        whisper, read = WhisperModel.from_pretrained(
            str(folder),
            dtype=dtype,
            attn_implementation="sdpa",
            local_files_only=True,
            output_loading_info=True,
            **config,
        )
        if lacking := read["missing_keys"]:  # transformers would fill them with random numbers
            raise ValueError(f"the weights lack {min(lacking)}")
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        problem = f"not a whole Whisper of transformers: {(str(error).splitlines() or [''])[0]}"
        raise UserError(str(folder), problem, "fetch or save it again") from error
    return whisper


def read_tokenizer(folder: Path) -> Any:
    """The tokenizers.Tokenizer of a Hugging Face folder, also in the older form of two files. Raises UserError."""
    from tokenizers import Tokenizer
    from transformers import WhisperTokenizerFast

    try:
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        return WhisperTokenizerFast.from_pretrained(str(folder), local_files_only=True).backend_tokenizer
    except Exception as error:  # tokenizers raises nothing more special
        problem = f"its tokenizer cannot be read: {(str(error).splitlines() or [''])[0]}"
        raise UserError(str(folder), problem, "fetch or save it again") from error


def _id(tokenizer: Any, token: str) -> int:
    number: int | None = tokenizer.token_to_id(token)
    if number is None:
        raise UserError("Whisper's tokenizer", f"it has no token {token}", "take a Whisper's own tokenizer")
    return number
