"""What a stage function is given: its folder, its inputs, the language, a log.

A stage module (`hlas.<noun>.stage`) holds a frozen dataclass `Params` (the plain parameters, checked by `validate`)
and `run(params, stage) -> summary`. It imports heavy libraries inside functions, so that `plan` stays instant. Where
parameters and inputs have to fit together, Params has `check_inputs(inputs)`: UserErrors whose `where` is the key.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.manifests.text import Language

Summary = dict[str, Any]  # JSON values; goes into stage.json, and its 'counts' are shown in the log


@dataclass(frozen=True, slots=True)
class Input:
    """One resolved input of a stage: what another stage made, or a file or folder from outside."""

    path: Path  # the file or folder to read
    stage: str = ""  # name of the stage that made it; '' for an outside path
    output: str = ""  # name of that stage's output; '' for its whole folder

    @property
    def label(self) -> str:
        """How the recipe writes it."""
        return ".".join(filter(None, (self.stage, self.output))) or str(self.path)


@dataclass(frozen=True, slots=True)
class Stage:
    """The run of one stage."""

    name: str  # key in the recipe
    kind: str
    folder: Path  # the partial folder to write into; a sibling of the finished stages' folders
    inputs: Mapping[str, tuple[Input, ...]]
    language: Language | None
    log: logging.Logger
    workers: int
    recipe: str = ""  # the recipe's name

    def one(self, name: str) -> Input:
        """The single input of that name."""
        (item,) = self.inputs[name]
        return item

    def optional(self, name: str) -> Input | None:
        """The input of that name, or None where the recipe gives none."""
        items = self.inputs.get(name, ())
        return items[0] if items else None

    def splits(self, name: str) -> dict[str, Path]:
        """The manifests of that input by split: the edge's output, else the file's name."""
        items = self.inputs[name]
        out = {item.output or item.path.stem: item.path for item in items}
        if len(out) < len(items):
            problem = f"two manifests have one name; there are: {', '.join(out)}"
            raise UserError(f"{self.name}.{name}", problem, "name each split once; a file's name is its split's")
        return out

    def need_language(self) -> Language:
        """The language whose rules the stage uses, its own or the recipe's; the recipe's check made sure of it."""
        assert self.language is not None
        return self.language
