"""From a stage's merged YAML to its typed, frozen parameters; every wrong value is reported with its line."""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from hlas.errors import UserError, did_you_mean
from hlas.param_errors import mistakes
from hlas.yamls import Document, KeyPath


def resolve(text: str, context: Mapping[str, Any]) -> tuple[str | None, str]:
    """Resolve `${oc.env:NAME,default}` and `${key}` in a text: (text, '') or (None, what is unset)."""
    if "${" not in text:
        return text, ""
    value, problem = resolve_all({"value": text}, context)
    return (None, problem) if problem else (str(value["value"]), "")


def resolve_all(data: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Resolve OmegaConf interpolations in a tree whose root is `data` laid over `context`."""
    if "${" not in json.dumps(data, default=str):
        return dict(data), ""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        resolved = OmegaConf.to_container(OmegaConf.create({**context, **data}), resolve=True)
    except OmegaConfBaseException as error:
        return {}, str(error).splitlines()[0]
    assert isinstance(resolved, dict)
    return {str(k): v for k, v in resolved.items() if k in data}, ""


def build_params(
    params_class: Any,
    stage: str,
    document: Document,
    structural: Collection[str],
    context: Mapping[str, Any],
    errors: list[UserError],
    place: str,
) -> tuple[Any, dict[str, Any]] | None:
    """The stage's Params and their JSON form with defaults, or None with the mistakes appended to `errors`.

    `structural` are the keys that the recipe itself reads (uses, spec, inputs): offered as near names. `place` is where
    the stage stands, for mistakes that belong to no single key.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

    data, problem = resolve_all(document.data, context)
    if problem:
        errors.append(UserError(place, f"{stage}: {problem}", "set the variable, or give a default"))
        return None
    known = {f.name for f in fields(params_class)}
    unknown = [key for key in data if key not in known]
    for key in unknown:
        fix = did_you_mean(key, known | set(structural))
        errors.append(UserError(document.place(key), f"{stage}: unknown key '{key}'", fix))
        del data[key]
    adapter = TypeAdapter(with_config(ConfigDict(extra="forbid", strict=False))(params_class))
    try:
        params = adapter.validate_python(data)
    except ValidationError as error:
        for mistake in mistakes(error.errors(), params_class, data):
            name = ".".join([stage, *map(str, mistake.path)])
            path = mistake.path or _named(mistake.problem, data)
            where = document.place(*path) if path else place
            errors.append(UserError(where, f"{name}: {mistake.problem}", mistake.fix))
        return None
    if unknown:
        return None
    plain = adapter.dump_python(params, mode="python")
    if unfit := _unfit(plain):
        key_path, message, fix = unfit
        errors.append(UserError(document.place(*key_path), f"{'.'.join([stage, *map(str, key_path)])}: {message}", fix))
        return None
    return params, json.loads(json.dumps(plain))


def _named(problem: str, data: Mapping[str, Any]) -> KeyPath:
    """The key that a Params class's own message begins with ('model.optim.lr: …'); () where it begins with none."""
    keys = tuple(problem.replace(":", " ").partition(" ")[0].split("."))
    return keys if keys[0] in data else ()


def _unfit(value: Any, path: tuple[str | int, ...] = ()) -> tuple[tuple[str | int, ...], str, str] | None:
    """The first value that has no place in a fingerprint: (key path, problem, fix)."""
    if isinstance(value, float) and not math.isfinite(value):
        return path, f"{value} is not a finite number", "give a number, or leave the key out"
    if isinstance(value, str) and "${" in value:
        return path, f"'{value}' would be resolved only when the stage runs", "write the value itself"
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return next((found for key, item in items if (found := _unfit(item, (*path, key)))), None)
