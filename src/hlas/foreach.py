"""`foreach: {freeze: [none, encoder]}` on a stage: one variant each, carried on to the stages that read it.

A stage that reads a variant gets one variant of its own for each; only a report collects them all in its lists. A
variant is named `stage@key=value`.
"""

import itertools
import re
from collections.abc import Iterable
from typing import Any

from hlas.errors import UserError
from hlas.stages import KINDS
from hlas.yamls import Document, KeyPath


def expand(stages: Document, errors: list[UserError]) -> Document:
    """The stages with each `foreach` written out."""
    variants: dict[str, list[str]] = {}  # stage -> suffixes of its variants ('' = the stage itself)
    axes: dict[str, dict[str, dict[str, Any]]] = {}  # stage -> suffix -> overlay
    for name, body in stages.data.items():
        if not isinstance(body, dict) or "foreach" not in body:
            continue
        foreach = body["foreach"]
        if not isinstance(foreach, dict) or not all(isinstance(v, list) and v for v in foreach.values()):
            where = stages.place(name, "foreach")
            errors.append(UserError(where, f"{name}.foreach is not a mapping of lists", "foreach: {key: [a, b]}"))
            body.pop("foreach")
            continue
        axes[name] = {}
        for values in itertools.product(*foreach.values()):
            pairs = dict(zip(foreach, values, strict=True))
            suffix = "".join(f"@{key}={_label(value)}" for key, value in pairs.items())
            if suffix in axes[name]:
                where = stages.place(name, "foreach")
                errors.append(
                    UserError(
                        where, f"{name}.foreach: two variants are named '{suffix[1:]}'", "give values that differ"
                    )
                )
            axes[name][suffix] = pairs
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

    for name, body in stages.data.items():
        for suffix in suffixes(name):
            copy = dict(body) if isinstance(body, dict) else body
            if isinstance(copy, dict) and suffix:
                copy.pop("foreach", None)
                copy.setdefault("uses", name)
                for own, pairs in axes.get(name, {}).items():
                    if _parts(own) <= _parts(suffix):
                        for key, value in pairs.items():
                            _set(copy, key.split("."), value)
            if isinstance(copy, dict):
                for key, value in copy.items():
                    copy[key] = _redirect(key, value, suffix, suffixes, name, stages)
            data[name + suffix] = copy
            places.update({(name + suffix, *p[1:]): place for p, place in stages.places.items() if p[:1] == (name,)})
    return Document(data, places, stages.errors)


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


def _set(data: dict[str, Any], keys: list[str], value: Any) -> None:
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


def _redirect(key: str, value: Any, suffix: str, suffixes: Any, name: str, stages: Document) -> Any:
    """Point an input at the variant that belongs to this one, or at all of them where it takes a list."""
    reads = _reads(stages, name)
    if key not in reads:
        return value
    items = value if isinstance(value, list) else [value]
    out: list[Any] = []
    for item in items:
        source, dot, output = item.partition(".") if isinstance(item, str) and "/" not in item else ("", "", "")
        if source not in stages.data or source == name:
            out.append(item)
            continue
        there = suffixes(source)
        matching = sorted((s for s in there if s and _parts(s) <= _parts(suffix)), key=len, reverse=True) or there
        chosen = there if reads[key] else matching[:1]
        out += [source + s + dot + output for s in chosen]
    return out if isinstance(value, list) or len(out) > 1 else out[0]
