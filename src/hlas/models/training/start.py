"""The weights that a training starts from: another model's, its decoder only where the labels are the same."""

import logging
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.models.training.job import Start


def start_from(model: Any, start: Start, log: logging.Logger) -> str:
    """Copy the weights that `start` names into the model.

    Returns what became of the decoder: 'new', 'kept', or how many of its rows were.
    """
    if start.model is None:
        return "new"
    return "kept" if _copy(model, start.model, log) else "new"


def _copy(model: Any, path: Path, log: logging.Logger) -> bool:
    from hlas.models.nemo_ctc import CtcModel

    other = CtcModel.load(path, "cpu")
    same = list(other.vocabulary.tokens) == [str(t) for t in model.decoder.vocabulary]
    state = {k: v for k, v in other.model.state_dict().items() if same or not k.startswith("decoder.")}
    own = model.state_dict()
    wrong = [k for k, v in state.items() if k not in own or own[k].shape != v.shape]
    if wrong:
        raise UserError(
            f"init {path.name}",
            f"another architecture: {len(wrong)} weights do not fit, first {wrong[0]}",
            "name the spec that it was trained with",
        )
    model.load_state_dict(state, strict=False)
    log.info("starts from %s; decoder %s", path.name, "kept" if same else "new, as the labels differ")
    return same
