"""A lack of memory: how torch says it, and work that is done in smaller parts where it lacks."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from hlas.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
# How torch says on the CPU that there is no memory: a plain RuntimeError
_ON_CPU = ("DefaultCPUAllocator: can't allocate memory", "not enough memory: you tried to allocate")


def lacks_memory(error: RuntimeError) -> bool:
    """Whether this is how torch says that there is no memory, of a GPU or of the machine."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _ON_CPU)


def in_parts(
    items: Sequence[Item], compute: Callable[[Sequence[Item]], list[Result]], where: str, named: Callable[[Item], str]
) -> list[Result]:
    """`compute(items)`, a result an item, in halves of halves where memory lacks for all of them at once.

    Raises UserError where it lacks for one alone; `named` says which clip that is.
    """
    try:
        return compute(items)
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        if len(items) == 1:
            device = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "the machine"
            fix = "choose a smaller model, or set max_duration in model.train_ds and model.validation_ds"
            raise UserError(where, f"{device} has no memory for {named(items[0])}", fix) from error
    # outside of `except`: what the failed try holds is free again
    middle = len(items) // 2
    return [half for part in (items[:middle], items[middle:]) for half in in_parts(part, compute, where, named)]
