"""From a stage's merged YAML to its typed, frozen parameters; every wrong value is reported with its line."""

import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from hlas.errors import UserError, did_you_mean
from hlas.yamls import Document


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
) -> tuple[Any, dict[str, Any]] | None:
    """The stage's Params and their JSON form with defaults, or None with the mistakes appended to `errors`.

    `structural` are the keys that the recipe itself reads (uses, spec, inputs): offered as near names.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

    data, problem = resolve_all(document.data, context)
    if problem:
        errors.append(UserError(document.place(), f"{stage}: {problem}", "set the variable, or give a default"))
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
        for item in error.errors():
            path = [p for p in item["loc"] if isinstance(p, str | int)]
            name = ".".join(map(str, path))
            given = "" if item["type"] == "missing" else f" (given: {item['input']!r})"
            errors.append(
                UserError(document.place(*path), f"{stage}.{name}: {item['msg'].lower()}{given}", _fix(item["type"]))
            )
        return None
    if unknown:
        return None
    return params, adapter.dump_python(params, mode="json")


def _fix(error_type: str) -> str:
    return {
        "missing": "add the key, to the spec or to the stage",
        "unexpected_keyword_argument": "remove the key, or check its spelling",
    }.get(error_type, "give a value of that kind")
