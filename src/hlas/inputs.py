"""What a stage reads: edges to other stages, and files and folders from outside the recipe."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.params import resolve
from hlas.paths import project_root
from hlas.stages import Reads
from hlas.yamls import Document


@dataclass(frozen=True, slots=True)
class Edge:
    """An input that another stage makes."""

    stage: str
    output: str = ""  # '' = the stage's whole folder
    place: str = field(default="", compare=False)  # 'file:line'

    def __str__(self) -> str:
        return f"{self.stage}.{self.output}" if self.output else self.stage


@dataclass(frozen=True, slots=True)
class Outside:
    """An input from outside the recipe; checked only when a stage that reads it runs."""

    path: Path | None  # None where an environment variable that it names is unset
    written: str  # as the recipe has it

    def __str__(self) -> str:
        return self.written


Inputs = Mapping[str, tuple[Edge | Outside, ...]]  # key -> what is read by it; a key that is not given is not there


def read_inputs(
    stage: str,
    key: str,
    reads: Reads,
    kind_name: str,
    names: Collection[str],
    own: Document,
    context: Mapping[str, Any],
    errors: list[UserError],
) -> tuple[Edge | Outside, ...]:
    """The inputs that a stage's own keys give under `key`; its mistakes are appended to `errors`.

    `names` are the recipe's stages; `context` is what interpolations may name.
    """
    value = own.data.get(key)
    where = own.place(key)
    if value is None or value == []:
        if reads.required:
            errors.append(
                UserError(where, f"{stage}: a '{kind_name}' stage needs '{key}'", f"add '{key}: …' ({takes(reads)})")
            )
        return ()
    values = value if isinstance(value, list) else [value]
    if isinstance(value, list) and not reads.many:
        errors.append(UserError(where, f"{stage}.{key} takes one input, not a list", f"name one ({takes(reads)})"))
        return ()
    out: list[Edge | Outside] = []
    for i, item in enumerate(values):
        here = own.place(key, i) if isinstance(value, list) else where
        if not isinstance(item, str):
            errors.append(UserError(here, f"{stage}.{key}: {item!r} is neither a stage nor a path", takes(reads)))
            continue
        text, problem = resolve(item, context)
        if "/" in (text if text is not None else item):
            if not reads.path:
                errors.append(UserError(here, f"{stage}.{key}: '{item}' is a path", f"this input takes {takes(reads)}"))
                continue
            out.append(Outside(None if text is None else project_root() / Path(text).expanduser(), item))
        elif text is None:
            errors.append(
                UserError(here, f"{stage}.{key}: {problem}", "set it, or give a default: ${oc.env:NAME,default}")
            )
        else:
            out.append(_edge(text, names, here))
    return tuple(out)


def _edge(text: str, names: Collection[str], place: str) -> Edge:
    """'stage' or 'stage.output'; a variant's name may hold dots itself (train@lr=0.01)."""
    head, dot, tail = text.rpartition(".")
    if text in names or not dot:
        return Edge(text, place=place)
    return Edge(head, tail, place)


def takes(reads: Reads) -> str:
    """What an input may be, for messages."""
    edges = ["a stage of kind " + " or ".join(e.removesuffix(".*") for e in reads.edges)] if reads.edges else []
    return " or ".join(edges + ([f"a path with '/' to a {reads.path}"] if reads.path else []))
