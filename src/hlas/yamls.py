"""YAML with the line of every key, so that each mistake is reported where it stands.

Only plain YAML is read (no tags that build objects); a key given twice is an error, as the first would be lost.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hlas.errors import UserError
from hlas.paths import project_root, shown

KeyPath = tuple[str | int, ...]
MOST_KEYS = 100_000
_MERGE = "tag:yaml.org,2002:merge"  # the key `<<`
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


# libyaml's parser where PyYAML was built with it (its wheels are): 6 times as fast
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]  # one of two classes
    """YAML 1.2's scalars: `1e-3` is a number (as in NeMo's configs) and `no` is text (a language code)."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in pairs if not tag.endswith((":bool", ":float", ":timestamp"))]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|false|True|False)$"), list("tfTF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf)|\.(?:nan|NaN))$"),
    list("-+.0123456789"),
)


def parse_value(text: str) -> Any:
    """One YAML value, read by the same rules; yaml.YAMLError where it is none."""
    return yaml.load(text, Loader=_Loader)


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML mapping and where each of its keys stands."""

    data: dict[str, Any]
    places: Mapping[KeyPath, str] = field(default_factory=dict)  # key path -> 'file:line'
    errors: tuple[UserError, ...] = ()

    def place(self, *path: str | int) -> str:
        """'file:line' of the key, or of the nearest key above it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, "")


def read_yaml(path: Path) -> Document:
    """Read a YAML file whose top is a mapping; syntax errors raise, doubled keys are listed in `errors`."""
    if not path.is_file():
        raise UserError(shown(path), "no such file", "check the path; relative paths start at the project's root")
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise UserError(shown(path), f"not UTF-8: {error}", "save the file as UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{shown(path)}:{mark.line + 1}" if mark else shown(path)
        raise UserError(
            where, f"not YAML: {getattr(error, 'problem', error)}", "mend the syntax on or above this line"
        ) from error
    places: dict[KeyPath, str] = {(): shown(path)}
    errors: list[UserError] = []
    data = {} if node is None else _build(node, (), shown(path), places, errors)
    if not isinstance(data, dict):
        raise UserError(shown(path), "the top of the file is not a mapping", "write 'key: value' lines")
    return Document(data, places, tuple(errors))


def _build(node: yaml.Node, path: KeyPath, file: str, places: dict[KeyPath, str], errors: list[UserError]) -> Any:
    if len(places) > MOST_KEYS:
        raise UserError(file, f"more than {MOST_KEYS:,} keys", "do aliases (*name) multiply one another?")
    if len(path) > 40:
        raise UserError(file, "nested more than 40 deep", "does an alias (*name) hold itself?")
    if isinstance(node, yaml.CollectionNode) and node.tag not in _PLAIN_TAGS:
        where = f"{file}:{node.start_mark.line + 1}"
        errors.append(UserError(where, f"the tag '{node.tag}' would build an object", "write plain values"))
        return None
    if isinstance(node, yaml.MappingNode):
        out: dict[str, Any] = {}
        inherited = _merged(node, file, errors)
        own = [pair for pair in node.value if pair[0].tag != _MERGE]
        for number, (key_node, value_node) in enumerate((*inherited, *own)):
            key = str(key_node.value)
            where = f"{file}:{key_node.start_mark.line + 1}"
            if key in out and number >= len(inherited):  # what is inherited twice: the nearest counts
                errors.append(UserError(where, f"key '{key}' is given twice", "remove one of them"))
            places[(*path, key)] = where
            out[key] = _build(value_node, (*path, key), file, places, errors)
        return out
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            places[(*path, i)] = f"{file}:{item.start_mark.line + 1}"
        return [_build(item, (*path, i), file, places, errors) for i, item in enumerate(node.value)]
    try:
        return _Loader("").construct_object(node)
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        where = f"{file}:{node.start_mark.line + 1}"
        errors.append(UserError(where, f"cannot read the value '{node.value}': {error}", "quote it if it is text"))
        return None


def _merged(node: yaml.MappingNode, file: str, errors: list[UserError]) -> list[tuple[yaml.Node, yaml.Node]]:
    """The pairs that `<<: *name` brings in and the mapping does not give itself."""
    given = {str(key.value) for key, _ in node.value}
    out = []
    for key, source in node.value:
        if key.tag != _MERGE:
            continue
        if isinstance(source, yaml.MappingNode):
            inherited = _merged(source, file, errors) + [pair for pair in source.value if pair[0].tag != _MERGE]
            out += [pair for pair in inherited if str(pair[0].value) not in given]
        else:
            errors.append(UserError(f"{file}:{key.start_mark.line + 1}", "'<<' takes one alias", "write '<<: *name'"))
    return out


def merge(base: Document, over: Document) -> Document:
    """Deep merge: mappings merge, lists and values replace, `null` removes a key that the base has."""
    places = dict(base.places)

    def walk(low: dict[str, Any], high: dict[str, Any], path: KeyPath) -> dict[str, Any]:
        out = dict(low)
        for key, value in high.items():
            here = (*path, key)
            if value is None and key in low:
                out.pop(key)
                continue
            if isinstance(value, dict) and isinstance(low.get(key), dict):
                out[key] = walk(low[key], value, here)
            else:
                out[key] = value
                for old in [p for p in places if p[: len(here)] == here]:
                    del places[old]
        return out

    data = walk(base.data, over.data, ())
    places.update({p: place for p, place in over.places.items() if p})
    return Document(data, places, (*base.errors, *over.errors))


def read_extended(path: Path, chain: tuple[Path, ...] = ()) -> Document:
    """Read a YAML merged over the one that it `extends` (beside it, or from the project's root), and so on."""
    path = path.resolve()
    if path in chain:
        names = " -> ".join(p.name for p in (*chain, path))
        raise UserError(shown(path), f"'extends' goes in a circle: {names}", "remove one 'extends'")
    document = read_yaml(path)
    parent = document.data.pop("extends", None)
    if parent is None:
        return document
    candidates = [path.parent / str(parent), project_root() / str(parent)]
    found = next((c for c in candidates if c.is_file()), None)
    if found is None:
        raise UserError(
            document.place("extends"), f"no file '{parent}'", "name a file beside this one, or from the project's root"
        )
    return merge(read_extended(found, (*chain, path)), document)


def sub_document(document: Document, key: str) -> Document:
    """The mapping under a key, with its places."""
    places = {p[1:]: place for p, place in document.places.items() if p[:1] == (key,)}
    value = document.data.get(key)
    return Document(value if isinstance(value, dict) else {}, places)
