"""Backend `beam_batch`: NeMo's batched beam search with an n-gram model of tokens on the GPU (NGPU-LM).

It works on the CPU too, many times slower than the others. Alpha weighs the LM of tokens, beta counts tokens, not
words; the token LM is an ARPA in NeMo's encoding, which an lm stage of unit 'token' writes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hlas.decode.logprobs import Array, BadLogProbs, Vocabulary, normalised
from hlas.decode.search import Found, NBest, SearchOptions
from hlas.decode.tune import Weights
from hlas.errors import UserError
from hlas.lm.ngram import LmFiles
from hlas.models.nemo_quiet import import_asr

IMPOSSIBLE = -1e4  # an infinity would become NaN in sums


class BatchedSearch:
    """NeMo's BatchedBeamCTCComputer on log-probs."""

    batch = 64

    def __init__(self, vocabulary: Vocabulary, lm: LmFiles | None, options: SearchOptions) -> None:
        import_asr()
        import torch

        self._options = options
        self._vocabulary = vocabulary
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._lm = None if lm is None else _token_lm(lm, vocabulary).to(self._device)
        self._computer: tuple[Weights, Any] | None = None  # the last one: it keeps its buffers and CUDA graphs

    def decode(self, batch: Sequence[Array], weights: Sequence[Weights]) -> list[tuple[NBest, ...]]:
        """See Backend."""
        emissions = []
        for position, frames in enumerate(batch):
            try:
                emissions.append(normalised(frames).astype(np.float32))
            except BadLogProbs as error:
                raise BadLogProbs(error.frame, position) from None
        found: list[list[NBest]] = [[] for _ in batch]
        some = [i for i, frames in enumerate(batch) if len(frames)]
        for at in weights:
            searched = dict(zip(some, self._search([emissions[i] for i in some], at), strict=True)) if some else {}
            for i, nbests in enumerate(found):
                nbests.append(searched.get(i, (Found("", 0.0, 0.0),)))
        return [tuple(nbests) for nbests in found]

    def _search(self, batch: Sequence[Array], weights: Weights) -> list[NBest]:
        import torch

        lengths = torch.tensor([len(frames) for frames in batch], device=self._device)
        # certain blanks after an utterance's end: NeMo goes on there, and would fill the beam with copies of the best
        padded = torch.full((len(batch), int(lengths.max()), batch[0].shape[1]), IMPOSSIBLE, device=self._device)
        padded[:, :, self._vocabulary.blank] = 0.0
        for i, frames in enumerate(batch):
            padded[i, : len(frames)] = torch.from_numpy(frames)
        with torch.inference_mode():
            hypotheses = self._computer_at(weights)(x=padded.clamp_min(IMPOSSIBLE), out_len=lengths).to_nbest_hyps_list(
                score_norm=False
            )
        return [self._nbest(h.n_best_hypotheses, weights) for h in hypotheses]

    def _computer_at(self, weights: Weights) -> Any:
        from nemo.collections.asr.parts.submodules.ctc_batched_beam_decoding import BatchedBeamCTCComputer

        if self._computer is None or self._computer[0] != weights:
            computer = BatchedBeamCTCComputer(
                blank_index=self._vocabulary.blank,
                beam_size=min(self._options.width, len(self._vocabulary.tokens) + 1),  # all that a first frame offers
                return_best_hypothesis=False,
                fusion_models=None if self._lm is None else [self._lm],
                fusion_models_alpha=None if self._lm is None else [weights.alpha],
                beam_beta=weights.beta,
                beam_threshold=-self._options.beam_prune_logp,
            )
            self._computer = (weights, computer)
        return self._computer[1]

    def _nbest(self, hypotheses: Sequence[Any], weights: Weights) -> NBest:
        found: dict[str, Found] = {}
        for hypothesis in hypotheses:
            ids = [int(i) for i in hypothesis.y_sequence]
            text = self._vocabulary.text(ids)
            score = float(hypothesis.score)
            if text not in found and np.isfinite(score):
                acoustic = score - weights.alpha * self._lm_score(ids) - weights.beta * len(ids)
                found[text] = Found(text, acoustic, score)
        best = sorted(found.values(), key=lambda candidate: -candidate.lm_score)
        return tuple(best[: self._options.nbest]) or (Found("", 0.0, 0.0),)

    def _lm_score(self, ids: Sequence[int]) -> float:
        """Natural log p(tokens, end), as the search added it."""
        if self._lm is None:
            return 0.0
        import torch

        state = self._lm.get_init_states(batch_size=1, bos=True)
        total = 0.0
        with torch.inference_mode():
            for i in ids:
                scores, states = self._lm.advance(states=state)
                total += float(scores[0, i])
                state = states[0, i : i + 1]
            return total + float(self._lm.get_final(state)[0])


def _token_lm(lm: LmFiles, vocabulary: Vocabulary) -> Any:
    from nemo.collections.asr.parts.submodules.ngram_lm import NGramGPULanguageModel

    if lm.arpa is None:
        raise UserError(str(lm.model), "beam_batch reads an ARPA, and there is none beside it", "keep lm.arpa")
    if lm.tokens and lm.tokens != vocabulary.tokens:
        problem = "its tokens are not the labels of these log-probs"
        raise UserError(str(lm.arpa), problem, "make the LM with the tokenizer of the acoustic model")
    return NGramGPULanguageModel.from_file(lm.arpa, vocab_size=len(vocabulary.tokens), normalize_unk=False)
