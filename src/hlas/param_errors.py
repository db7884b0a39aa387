"""What pydantic finds wrong with a stage's parameters, said in the words of the YAML: keys, and the values they take.

pydantic names its own inner parts (`freeze.literal['none',…]`) and has an error for every member of a union; a user
gets one error for each wrong value, at its key, with all that the key takes.
"""

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hlas.errors import did_you_mean
from hlas.yamls import KeyPath

_FIX = "give a value of that kind"
_WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    dict: "a mapping",
    types.NoneType: "null",
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong value or key."""

    path: KeyPath  # from the parameters' top; () = no single key
    problem: str
    fix: str


def mistakes(details: Iterable[Mapping[str, Any]], params_class: Any, data: Mapping[str, Any]) -> list[Mistake]:
    """Each wrong value of `data` once; `details` are what pydantic's ValidationError.errors() gives."""
    groups: dict[KeyPath, list[tuple[KeyPath, Mapping[str, Any]]]] = {}
    for detail in details:
        path, union = _path(detail, data)
        groups.setdefault(path if union is None else union, []).append((path, detail))
    found = []
    for top, members in groups.items():
        # of a union's members, the one that the value looks like is the one that has a complaint about its inside
        inside = [(path, detail) for path, detail in members if path != top or detail["type"] == "value_error"]
        found += [_mistake(path, detail, params_class) for path, detail in inside or members[:1]]
    return list(dict.fromkeys(found))


def _path(detail: Mapping[str, Any], data: Any) -> tuple[KeyPath, KeyPath | None]:
    """Where the value stands in the data, and where the union does that it should have been a member of, if any."""
    path: list[str | int] = []
    union: KeyPath | None = None
    for number, part in enumerate(detail["loc"], 1):
        if _holds(data, part):
            path.append(part)
            data = data[part]
        elif detail["type"] == "missing" and number == len(detail["loc"]):
            path.append(part)
        elif part != "[key]" and union is None:
            union = tuple(path)
    return tuple(path), union


def _holds(data: Any, part: Any) -> bool:
    if isinstance(data, Mapping):
        return part in data
    return isinstance(data, Sequence) and not isinstance(data, str) and isinstance(part, int) and part < len(data)


def _mistake(path: KeyPath, detail: Mapping[str, Any], params_class: Any) -> Mistake:
    kind, value = detail["type"], detail["input"]
    if kind == "value_error":  # raised by a Params class: its message says all
        return Mistake(path, detail["msg"].removeprefix("Value error, "), "")
    if kind == "missing":
        return Mistake(path, "is missing", "add the key, to the spec or to the stage")
    if kind == "unexpected_keyword_argument" or detail["loc"][-1] == "[key]":
        mapping = _members(_at(params_class, path[:-1]))
        fix = did_you_mean(str(path[-1]), [key for member in mapping for key in _keys(member)])
        kinds = [text for member in mapping if get_origin(member) is dict for text in _takes(get_args(member)[0])]
        return Mistake(path, "no such key", fix or f"each key is {' or '.join(kinds)}")
    takes = _takes(_at(params_class, path))
    if not takes:
        return Mistake(path, f"{detail['msg'].lower()} (given: {value!r})", _FIX)
    *others, last = takes
    problem = f"takes {', '.join(others)} or {last}, not {value!r}" if others else f"takes {last}, not {value!r}"
    if not isinstance(value, str):
        return Mistake(path, problem, f"write it in quotes: '{value}'" if str(value) in takes else _FIX)
    near = difflib.get_close_matches(value, takes, n=1)
    return Mistake(path, problem, f"did you mean '{near[0]}'?" if near else _FIX)


def _at(annotation: Any, path: KeyPath) -> Any:
    """The annotation of what stands at that path; None where it is not known."""
    for part in path:
        inner = (_inside(member, part) for member in _members(annotation))
        annotation = next((found for found in inner if found is not None), None)
    return annotation


def _inside(annotation: Any, part: str | int) -> Any:
    if is_dataclass(annotation):
        return get_type_hints(annotation).get(str(part))
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return arguments[1]
    return arguments[0] if get_origin(annotation) in (list, tuple) else None


def _members(annotation: Any) -> tuple[Any, ...]:
    """Of a union all, else the one."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _keys(annotation: Any) -> list[str]:
    """The keys that a mapping may have, where they are few; else none."""
    if is_dataclass(annotation):
        return [field.name for field in fields(annotation)]
    if get_origin(annotation) is dict and get_origin(get_args(annotation)[0]) is Literal:
        return list(get_args(get_args(annotation)[0]))
    return []


def _takes(annotation: Any) -> list[str]:
    """The values that fit an annotation, each as a YAML has it or in words; none where it is not known."""
    return [text for member in _members(annotation) for text in _described(member)]


def _described(annotation: Any) -> list[str]:
    origin = get_origin(annotation)
    if origin is Literal:
        return [str(value) for value in get_args(annotation)]
    if keys := _keys(annotation):
        if is_dataclass(annotation):
            return [f"a mapping of {', '.join(keys)}"]
        return [f"{{{key}: {' or '.join(_takes(get_args(annotation)[1]))}}}" for key in keys]
    if origin in (list, tuple):
        return ["a list"]
    return [_WORDS[origin or annotation]] if (origin or annotation) in _WORDS else []
