"""`foreach: {freeze: [none, encoder]}` on a stage: one variant each, carried on to the stages that read it.

A stage that reads a variant gets one variant of its own for each; only a report collects them all in its lists. A
variant is named `stage@key=value`.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hlas.errors import UserError
from hlas.stages import KINDS
from hlas.yamls import Document, KeyPath, sub_document


def expand(stages: Document, errors: list[UserError]) -> Document:
    """The stages with each `foreach` written out."""
    variants: dict[str, list[str]] = {}  # stage -> suffixes of its variants ('' = the stage itself)
    axes = {name: own for name in stages.data if (own := _axes(name, stages, errors))}
    if not axes:
        return stages
    data: dict[str, Any] = {}
    places: dict[KeyPath, str] = dict(stages.places)

    def suffixes(name: str, trail: tuple[str, ...] = ()) -> list[str]:
        if name in trail:  # a circle: reported by the ordering
            return [""]
        if name not in variants:
            inherited = [suffixes(source, (*trail, name)) for source in dict.fromkeys(_single_sources(stages, name))]
            own = list(axes.get(name, {"": {}}))
            combined = (_combine(parts) for parts in itertools.product(*inherited, own))
            variants[name] = list(dict.fromkeys(suffix for suffix in combined if suffix is not None))
        return variants[name]

    for name in stages.data:
        for suffix in suffixes(name):
            chosen = {
                key: number
                for own, numbers in axes.get(name, {}).items()
                if suffix and _parts(own) <= _parts(suffix)
                for key, number in numbers.items()
            }
            variant = _variant(name, suffix, chosen, stages)
            own_places = dict(variant.places)
            for key, value in variant.data.items():
                variant.data[key], sources = _redirect(key, value, suffix, suffixes, name, stages)
                own_places |= {(key, i): variant.place(key, source) for i, source in enumerate(sources)}
            data[name + suffix] = variant.data if isinstance(stages.data[name], dict) else stages.data[name]
            places |= {(name + suffix, *path): place for path, place in own_places.items()}
    return Document(data, places, stages.errors)


def _axes(name: str, stages: Document, errors: list[UserError]) -> dict[str, dict[str, int]]:
    """Of each variant that a stage's own `foreach` makes: its suffix -> key -> place of the value in the key's list."""
    body = stages.data[name]
    if not isinstance(body, dict) or "foreach" not in body:
        return {}
    foreach = body["foreach"]
    wrong = [key for key, v in foreach.items() if not (isinstance(v, list) and v)] if isinstance(foreach, dict) else []
    if wrong or not foreach or not isinstance(foreach, dict):
        where = stages.place(name, "foreach", *wrong[:1])
        errors.append(UserError(where, f"{name}.foreach is not a mapping of lists", "foreach: {key: [a, b]}"))
        body.pop("foreach")
        return {}
    axes: dict[str, dict[str, int]] = {}
    for numbers in itertools.product(*(range(len(values)) for values in foreach.values())):
        chosen = dict(zip(foreach, numbers, strict=True))
        suffix = "".join(f"@{key}={_label(foreach[key][number])}" for key, number in chosen.items())
        if suffix in axes:
            last = list(foreach)[-1]
            where, fix = stages.place(name, "foreach", last, chosen[last]), "give values that differ"
            errors.append(UserError(where, f"{name}.foreach: two variants are named '{suffix[1:]}'", fix))
        axes[suffix] = chosen
    return axes


def _variant(name: str, suffix: str, chosen: Mapping[str, int], stages: Document) -> Document:
    """One variant's body: a value that is chosen stands where the list of its `foreach` has it."""
    own = sub_document(stages, name)
    body, places = dict(own.data), dict(own.places)
    if suffix:
        body.pop("foreach", None)
        body.setdefault("uses", name)
    for key, number in chosen.items():
        path, source = tuple(key.split(".")), ("foreach", key, number)
        _set(body, path, own.data["foreach"][key][number])
        places = {p: place for p, place in places.items() if p[: len(path)] != path}
        places |= {(*path, *p[3:]): place for p, place in own.places.items() if p[:3] == source}
    return Document(body, places)


def _combine(parts: Iterable[str]) -> str | None:
    """One suffix of several; None where they name two values of one key (train on one variant, dev of another)."""
    chosen: dict[str, str] = {}
    for part in (p for whole in parts for p in whole.split("@") if p):
        key = part.partition("=")[0]
        if chosen.setdefault(key, part) != part:
            return None
    return "".join(f"@{part}" for part in chosen.values())


def _label(value: Any) -> str:
    """A value as a part of a name: what separates names and paths becomes '_'."""
    return re.sub(r"[/:@=]", "_", re.sub(r"[ {}']", "", str(value)))


def _parts(suffix: str) -> set[str]:
    return set(suffix.split("@")) - {""}


def _set(data: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        data[key] = dict(data.get(key) or {})
        data = data[key]
    data[keys[-1]] = value


def _reads(stages: Document, name: str) -> dict[str, bool]:
    """Input key -> whether it collects all variants: only a report does, any other list reads those of its own."""
    body = stages.data[name]
    kind = KINDS.get(str(body.get("uses", name))) if isinstance(body, dict) else None
    return {key: reads.many and kind.names_matter for key, reads in kind.reads.items()} if kind else {}


def _single_sources(stages: Document, name: str) -> list[str]:
    """The stages whose variants multiply this one: read by a single input, and not collected by a list as well."""
    body = stages.data[name]
    single: list[str] = []
    collected: set[str] = set()
    for key, many in _reads(stages, name).items():
        value = body.get(key)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and "/" not in item and item.partition(".")[0] in stages.data:
                source = item.partition(".")[0]
                if many:
                    collected.add(source)
                else:
                    single.append(source)
    return [source for source in single if source not in collected]


def _redirect(key: str, value: Any, suffix: str, suffixes: Any, name: str, stages: Document) -> tuple[Any, list[int]]:
    """Point an input at the variant that belongs to this one, or at all of them where it takes a list.

    Of what a list then holds, the second list has the places in the list as it was written.
    """
    reads = _reads(stages, name)
    if key not in reads:
        return value, []
    out: list[Any] = []
    sources: list[int] = []
    for i, item in enumerate(value if isinstance(value, list) else [value]):
        source, dot, output = item.partition(".") if isinstance(item, str) and "/" not in item else ("", "", "")
        if source not in stages.data or source == name:
            out.append(item)
        else:
            there = suffixes(source)
            matching = sorted((s for s in there if s and _parts(s) <= _parts(suffix)), key=len, reverse=True) or there
            chosen = there if reads[key] else matching[:1]
            out += [source + s + dot + output for s in chosen]
        sources += [i] * (len(out) - len(sources))
    return (out if isinstance(value, list) or len(out) > 1 else out[0]), sources
