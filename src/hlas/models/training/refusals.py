"""What NeMo, Hydra, torch and Lightning say of a YAML's values, each in its own way -> one UserError."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hlas.errors import UserError, did_you_mean

OF_GROUPS = ("params", "initial_lr")  # keys of a parameter group that are no settings


@contextmanager
def explained(section: str, fix: str) -> Iterator[None]:
    """Around what is built from a section of the YAML. Other errors than those of wrong values pass."""
    from hydra.errors import HydraException
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (
        HydraException,
        MisconfigurationException,
        OmegaConfBaseException,
        TypeError,
        ValueError,
        LookupError,
    ) as error:
        first: BaseException = error
        while first.__cause__ is not None:  # Hydra wraps what a class says
            first = first.__cause__
        if isinstance(first, UserError):
            raise first from error
        problem = " ".join(str(first).split()) or type(first).__name__
        raise UserError(f"train: {section}", problem, fix) from error


def explain_optimiser(model: Any) -> None:
    """Let a NeMo model's optimiser, schedule and parameter groups be refused with a UserError when they are made."""
    configure = model.configure_optimizers

    def configured() -> Any:
        with explained("model.optim", "see the arguments of that optimiser or schedule in NeMo's documentation"):
            made = configure()
        known = [key for key in model._optimizer.defaults if key not in OF_GROUPS]
        for group, keys in (model.cfg.get("optim_param_groups") or {}).items():
            for key in keys:  # torch keeps any key in a group, and reads those it knows
                if key not in known:
                    where = f"train: model.optim_param_groups.{group}.{key}"
                    raise UserError(where, "no setting of this optimiser", did_you_mean(key, known))
        return made

    model.configure_optimizers = configured
