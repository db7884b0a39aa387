"""A recipe's YAML as frozen dataclasses, every mistake reported at once with its line.

Order of work: read and `extends` (deep merge) -> `--set` -> `foreach` variants -> each stage's spec YAML under its
own keys -> interpolations -> typed parameters and inputs -> order by data flow.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from yaml import YAMLError

from hlas.errors import UserError, UserErrors, did_you_mean
from hlas.foreach import expand
from hlas.inputs import Edge, Inputs, Outside, read_inputs, takes
from hlas.manifests.text import load_language
from hlas.params import build_params
from hlas.paths import project_root, shown
from hlas.stages import KINDS, Kind
from hlas.yamls import Document, KeyPath, merge, parse_value, read_extended, sub_document

TOP_KEYS = {"name", "description", "language", "stages"}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
RESERVED = {"logs", *(name for kind in KINDS.values() for name in kind.publishes)}


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stage of a recipe, checked."""

    name: str
    kind: str
    params: Any  # instance of the stage module's Params
    plain: Mapping[str, Any]  # the same as JSON values, defaults filled in: what the fingerprint sees
    inputs: Inputs
    language: Path | None  # whose text rules it uses: its own or the recipe's; None where its kind uses none
    place: str  # 'file:line'

    def edges(self) -> list[Edge]:
        """The inputs that other stages make."""
        return [i for items in self.inputs.values() for i in items if isinstance(i, Edge)]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A checked recipe; `stages` are in the order in which they run."""

    name: str
    path: Path
    language: Path | None  # of every stage that names none of its own
    stages: tuple[StageSpec, ...]
    resolved: Mapping[str, Any]  # the merged YAML, variables as written
    notes: tuple[str, ...]  # outside inputs that are unset or missing

    @property
    def languages(self) -> set[Path]:
        """The recipe's language and those that single stages name."""
        return {language for language in (self.language, *(s.language for s in self.stages)) if language}

    def stage(self, name: str) -> StageSpec:
        """The stage of that name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise UserError(shown(self.path), f"no stage '{name}'", did_you_mean(name, [s.name for s in self.stages]))


def load_recipe(path: Path, settings: Iterable[str] = ()) -> Recipe:
    """Read and check a recipe; `settings` are `STAGE.key=value` as on the command line.

    Raises UserErrors with every mistake found.
    """
    document = _with_settings(read_extended(path), settings)
    errors = list(document.errors)
    for key in document.data:
        if key not in TOP_KEYS:
            errors.append(UserError(document.place(key), f"unknown key '{key}'", did_you_mean(key, TOP_KEYS)))
    name = document.data.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name) or name == "store":
        errors.append(
            UserError(
                document.place("name"), f"'name' is {name!r}", "give the recipe a name of letters, digits, - and _"
            )
        )
    written = document.data.get("language")
    language = None if written is None else _language_file(str(written), document.place("language"), errors)
    stages_document = sub_document(document, "stages")
    if not stages_document.data:
        problem = "'stages' is not a mapping" if document.data.get("stages") else "no stages"
        errors.append(UserError(document.place("stages"), problem, "write 'stages:' with one stage a key"))
    for key in stages_document.data:
        if not NAME.fullmatch(key) or key in RESERVED:
            problem = f"'{key}' cannot be a stage's name"
            errors.append(
                UserError(stages_document.place(key), problem, "use letters, digits, - and _, and no result's name")
            )
    stages_document = expand(stages_document, errors)
    context = {k: v for k, v in document.data.items() if k != "stages"}
    known: dict[str, _Written] = {}
    stages: list[StageSpec] = []
    for key in stages_document.data:
        if stage_as_written := _written(key, stages_document, context, errors):
            known[key] = stage_as_written
            if checked := _checked(stage_as_written, context, language, errors):
                stages.append(checked)
    for stage_as_written in known.values():  # also of those whose parameters are wrong
        _check_edges(stage_as_written, known, set(stages_document.data), errors)
    for stage in stages:
        if KINDS[stage.kind].uses_language and stage.language is None and written is None:
            problem = f"a '{stage.kind}' stage needs a language"
            errors.append(UserError(stage.place, problem, "add 'language: …' to the recipe, or to the stage"))
    ordered = [] if errors else _topological(stages, errors)
    if errors:
        raise UserErrors(errors)
    return Recipe(str(name), path, language, tuple(ordered), document.data, _notes(ordered))


def _with_settings(document: Document, settings: Iterable[str]) -> Document:
    for setting in settings:
        key, equals, text = setting.partition("=")
        where = f"--set {setting}"
        keys = key.split(".")
        if not equals or len(keys) < 2 or not all(keys):
            raise UserError(where, "not of the form STAGE.key=value", "for example --set train.trainer.max_epochs=5")
        stages = document.data.get("stages")
        if not isinstance(stages, dict) or keys[0] not in stages:
            known = stages if isinstance(stages, dict) else ()
            raise UserError(where, f"no stage '{keys[0]}'", did_you_mean(keys[0], known))
        if not isinstance(stages[keys[0]] or {}, dict):
            raise UserError(
                document.place("stages", keys[0]), f"stage '{keys[0]}' is not a mapping", "write {key: value, …}"
            )
        try:
            value = parse_value(text)
        except (YAMLError, ValueError, KeyError, TypeError) as error:
            raise UserError(where, f"not a YAML value: {text}", "quote it if it is text") from error
        kind = KINDS.get(str((stages[keys[0]] or {}).get("uses", keys[0])))
        if kind and len(keys) == 2 and keys[1] in {*kind.reads, *kind.specs, "language"}:
            value = _from_current_folder(value)
        nested: Any = value
        for part in reversed(["stages", *keys]):
            nested = {part: nested}
        places: dict[KeyPath, str] = {("stages", *keys[:i]): where for i in range(1, len(keys) + 1)}
        document = merge(document, Document(nested, places))
    return document


def _from_current_folder(value: Any) -> Any:
    """Paths given on the command line start at the current folder."""
    if isinstance(value, list):
        return [_from_current_folder(v) for v in value]
    return (
        str(Path.cwd() / Path(value).expanduser())
        if isinstance(value, str) and "/" in value and "${" not in value
        else value
    )


def _language_file(written: str, place: str, errors: list[UserError]) -> Path | None:
    """The language YAML of that path, read and checked; None with its mistakes appended to `errors`."""
    path = project_root() / written
    if not path.is_file():
        near = did_you_mean(path.name, [p.name for p in (project_root() / "manifests/languages").glob("*.yaml")])
        errors.append(UserError(place, f"no language file '{written}'", near))
        return None
    try:
        load_language(path)
    except UserError as error:
        errors.extend(error.errors)
        return None
    return path


def _stage_language(
    name: str, kind_name: str, own: Document, default: Path | None, errors: list[UserError]
) -> Path | None:
    """The language whose rules a stage uses: the YAML that it names itself, else the recipe's."""
    kind = KINDS[kind_name]
    written, place = own.data.get("language"), own.place("language")
    if written is None or _is_parameter(kind, written):
        return default if kind.uses_language else None
    if not kind.uses_language:
        users = ", ".join(key for key, other in KINDS.items() if other.uses_language)
        problem = f"{name}.language: a '{kind_name}' stage uses no language"
        errors.append(UserError(place, problem, f"remove it; these use one: {users}"))
        return None
    if not isinstance(written, str) or "/" not in written:
        fix = "name its YAML: 'language: manifests/languages/cs.yaml'"
        errors.append(UserError(place, f"{name}.language: {written!r} is not a path", fix))
        return None
    return _language_file(written, place, errors)


def _is_parameter(kind: Kind, language: Any) -> bool:
    """Whether a stage's `language` is a parameter of its own and no file: the code that Whisper is told has no '/'."""
    names = {field.name for field in fields(import_module(kind.module).Params)}
    return "language" in names and not (isinstance(language, str) and "/" in language)


@dataclass(frozen=True, slots=True)
class _Written:
    """A stage of a known kind as the recipe has it, its parameters not yet looked at."""

    name: str
    kind: str
    own: Document
    inputs: Inputs
    sound: bool  # whether no input is wrong in itself


def _written(name: str, stages: Document, context: Mapping[str, Any], errors: list[UserError]) -> _Written | None:
    body = stages.data[name]
    if body is None:
        body = {}
    if not isinstance(body, dict):
        errors.append(UserError(stages.place(name), f"stage '{name}' is not a mapping", "write {key: value, …}"))
        return None
    kind_name = str(body.get("uses", name.partition("@")[0]))
    kind = KINDS.get(kind_name)
    if kind is None:
        fix = did_you_mean(kind_name, KINDS) + (" (or name the kind by 'uses:')" if "uses" not in body else "")
        errors.append(UserError(stages.place(name, "uses"), f"no stage kind '{kind_name}'", fix))
        return None
    own, before = sub_document(stages, name), len(errors)
    inputs = {
        key: read_inputs(name, key, reads, kind_name, stages.data, own, context, errors)
        for key, reads in kind.reads.items()
    }
    return _Written(name, kind_name, own, {k: v for k, v in inputs.items() if v}, len(errors) == before)


def _checked(
    stage: _Written, context: Mapping[str, Any], language: Path | None, errors: list[UserError]
) -> StageSpec | None:
    own = stage.own
    language = _stage_language(stage.name, stage.kind, own, language, errors)
    parameters = _parameters(stage.name, stage.kind, KINDS[stage.kind], own, context, errors)
    if parameters is None:
        return None
    if stage.sound and hasattr(parameters[0], "check_inputs"):
        for error in parameters[0].check_inputs(stage.inputs):
            errors.append(UserError(own.place(error.where), f"{stage.name}.{error.where}: {error.problem}", error.fix))
    return StageSpec(stage.name, stage.kind, *parameters, stage.inputs, language, own.place())


def _parameters(
    name: str, kind_name: str, kind: Kind, own: Document, context: Mapping[str, Any], errors: list[UserError]
) -> tuple[Any, dict[str, Any]] | None:
    structural = {"uses", *kind.reads, *kind.specs}
    if not _is_parameter(kind, own.data.get("language")):
        structural.add("language")
    overlay = Document({k: v for k, v in own.data.items() if k not in structural}, own.places)
    spec_key = next((key for key in kind.specs if own.data.get(key) is not None), None)
    merged = overlay
    if spec_key is not None:
        written = str(own.data[spec_key])
        path = project_root() / written
        if not path.is_file():
            fix = did_you_mean(written, map(shown, path.parent.glob("*.yaml"))) or "check the path"
            errors.append(UserError(own.place(spec_key), f"{name}.{spec_key}: no such file '{written}'", fix))
            return None
        try:
            merged = merge(read_extended(path), overlay)
        except UserError as error:
            errors.extend(error.errors)
            return None
        errors.extend(merged.errors)
    elif kind.needs_spec:
        errors.append(
            UserError(
                own.place(), f"{name}: a '{kind_name}' stage needs 'spec'", "name its YAML: 'spec: folder/x.yaml'"
            )
        )
        return None
    params_class = import_module(kind.module).Params
    known = {*structural, "foreach"}
    return build_params(params_class, name, merged, known, context, errors, own.place())


def _check_edges(stage: _Written, known: Mapping[str, _Written], written: set[str], errors: list[UserError]) -> None:
    for key, items in stage.inputs.items():
        reads = KINDS[stage.kind].reads[key]
        for edge in items:
            if not isinstance(edge, Edge):
                continue
            source = known.get(edge.stage)
            if source is None:
                if edge.stage not in written:  # else its own mistake is listed already
                    fix = did_you_mean(edge.stage, written) + " (a path needs a '/': ./file)"
                    errors.append(UserError(edge.place, f"{stage.name}.{key}: no stage '{edge.stage}'", fix))
                continue
            outputs = KINDS[source.kind].writes
            if edge.output and edge.output not in outputs:
                problem = f"{stage.name}.{key}: '{edge.stage}' has no output '{edge.output}'"
                errors.append(UserError(edge.place, problem, did_you_mean(edge.output, outputs)))
            elif not reads.accepts(source.kind, edge.output):
                made = f"'{edge}' is a {source.kind}{'.' + edge.output if edge.output else ''}"
                errors.append(UserError(edge.place, f"{stage.name}.{key}: {made}", f"it takes {takes(reads)}"))


def _topological(stages: list[StageSpec], errors: list[UserError]) -> list[StageSpec]:
    """Order by data flow, ties by the order in the file."""
    done: list[StageSpec] = []
    left = list(stages)
    while left:
        names = {s.name for s in done}
        ready = next((s for s in left if all(e.stage in names for e in s.edges())), None)
        if ready is None:
            circle = ", ".join(s.name for s in left)
            errors.append(
                UserError(left[0].place, f"stages read one another in a circle: {circle}", "cut one of the edges")
            )
            return []
        done.append(ready)
        left.remove(ready)
    return done


def _notes(stages: Iterable[StageSpec]) -> tuple[str, ...]:
    notes = []
    for stage in stages:
        for key, items in stage.inputs.items():
            for item in items:
                if isinstance(item, Outside) and (item.path is None or not item.path.exists()):
                    state = "unset" if item.path is None else "not there"
                    notes.append(
                        f"{stage.place}: {stage.name}.{key}: '{item.written}' is {state}; needed when the stage runs"
                    )
    return tuple(notes)
