"""Run a recipe: skip what is made, resume what was killed, publish each stage whole or not at all."""

import datetime
import fcntl
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import yaml

from hlas import store
from hlas.environment import code_hash, environment
from hlas.errors import UserError
from hlas.files import atomic_text
from hlas.inputs import Edge
from hlas.manifests.text import load_language
from hlas.paths import shown
from hlas.plan import Planned, Selection, check_ready, make_plan
from hlas.ranks import check_launch, join, launched, leading
from hlas.recipe import Recipe
from hlas.stage import Input, Stage
from hlas.stages import KINDS

LOG = logging.getLogger("hlas")


def run_recipe(recipe: Recipe, runs: Path, selection: Selection, workers: int) -> list[Planned]:
    """Make every selected stage that is not made; returns the plan that was carried out.

    Of several processes that torchrun or SLURM started, the first does so; the others take part in its one stage, and
    return no plan.
    """
    me = launched()
    if me is None:
        return _run(recipe, runs, selection, workers)
    check_launch(me, recipe.path, selection.only, {stage.name: stage.kind for stage in recipe.stages})
    if me.rank:
        join(me)
        return []
    with leading(me):
        return _run(recipe, runs, selection, workers)


def _run(recipe: Recipe, runs: Path, selection: Selection, workers: int) -> list[Planned]:
    (runs / "store").mkdir(parents=True, exist_ok=True)
    home = runs / recipe.name
    planned = make_plan(recipe, runs, selection)
    check_ready(planned)
    home.mkdir(exist_ok=True)
    with atomic_text(home / "recipe.resolved.yaml") as file:
        yaml.safe_dump(dict(recipe.resolved), file, allow_unicode=True, sort_keys=False)
    made = {p.stage.name: p.folder for p in planned}
    for p in planned:
        # an older report must not stand beside this recipe.resolved.yaml; the stage's link keeps it
        if p.forced or not p.made:
            for name in KINDS[p.stage.kind].publishes:
                (home / name).unlink(missing_ok=True)
    for p in planned:
        if p.runs:
            _make(p, recipe, made, home, workers)
        elif p.selected:
            LOG.info("%s: made already%s", p.stage.name, f" ({p.last_seconds:.0f} s)" if p.last_seconds else "")
        if store.is_done(p.folder):  # a forced stage leaves what rests on it unfinished
            _publish(p, home)
    return planned


def _make(p: Planned, recipe: Recipe, made: Mapping[str, Path], home: Path, workers: int) -> None:
    kind = KINDS[p.stage.kind]
    with _locked(p.folder), _logged(home / "logs" / f"{p.stage.name}.log"):
        if not p.forced and _whole(p.folder):  # another process made it while this one waited
            return
        partial = store.partial(p.folder)
        if partial.exists() and not (kind.resumes and not p.forced):
            shutil.rmtree(partial)
        if partial.exists():
            LOG.info("%s: goes on from what an interrupted run left", p.stage.name)
        partial.mkdir(exist_ok=True)
        LOG.info("%s: %s", p.stage.name, _reason(p))
        started = time.monotonic()
        stage = Stage(
            recipe=recipe.name,
            name=p.stage.name,
            kind=p.stage.kind,
            folder=partial,
            inputs=_inputs(p, made),
            language=load_language(p.stage.language) if p.stage.language else None,
            log=LOG,
            workers=workers,
        )
        try:
            summary = import_module(kind.module).run(p.stage.params, stage)
        except UserError as error:
            LOG.debug("%s", error)
            raise
        except Exception:  # whatever it is goes into the stage's log, and on
            LOG.debug("the stage broke", exc_info=True)
            raise
        seconds = time.monotonic() - started
        record = store.Record(
            name=p.stage.name,
            kind=p.stage.kind,
            version=kind.version,
            fingerprint=p.fingerprint,
            ingredients=p.ingredients,
            params=p.stage.plain,
            inputs=_sources(p, made),
            summary=summary,
            seconds=round(seconds, 2),
            finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            environment={**environment(), "code": code_hash(kind.module), "command": " ".join(["hlas", *sys.argv[1:]])},
            outputs=tuple(name for name in kind.writes.values() if (partial / name).exists()),
        )
        store.write_record(partial, record)
        if p.forced and p.folder.exists():  # made again with the same fingerprint, it is what its readers have read
            store.forget_dependents(p.folder)
        _swap(partial, p.folder)
        LOG.info("%s: done in %.1f s -> %s", p.stage.name, seconds, shown(p.folder))


def _whole(folder: Path) -> bool:
    return store.is_done(folder) and not store.gone(folder, store.read_record(folder))


def _reason(p: Planned) -> str:
    if p.forced and p.made:
        return "made anew (--force)"
    return f"changed: {', '.join(p.changes[:4])}" if p.changes else "running"


def _swap(partial: Path, folder: Path) -> None:
    """Give the finished folder its name; an older result of the same name steps aside first and is removed after."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _inputs(p: Planned, made: Mapping[str, Path]) -> dict[str, tuple[Input, ...]]:
    out: dict[str, tuple[Input, ...]] = {}
    for key, items in p.stage.inputs.items():
        resolved = []
        for item in items:
            if isinstance(item, Edge):
                resolved.append(Input(_output(item, key, made[item.stage], p), item.stage, item.output))
            else:
                assert item.path is not None  # check_ready has refused unset ones
                resolved.append(Input(item.path))
        out[key] = tuple(resolved)
    return out


def _output(edge: Edge, key: str, folder: Path, p: Planned) -> Path:
    """Path of what an edge names; an output that the stage did not write is an error of the stage that reads it."""
    record = store.read_record(folder)
    writes = KINDS[record.kind].writes
    name = writes.get(KINDS[p.stage.kind].reads[key].output_meant(record.kind, edge.output))
    path = folder / name if name else folder
    if not path.exists():
        there = [output for output, file in writes.items() if (folder / file).exists()]
        raise UserError(
            f"{p.stage.place}: {p.stage.name}",
            f"'{edge}' was not written by stage '{edge.stage}'",
            f"it wrote: {', '.join(there) or 'nothing'}",
        )
    return path


def _sources(p: Planned, made: Mapping[str, Path]) -> dict[str, tuple[store.Source, ...]]:
    return {
        key: tuple(
            store.Source(i.stage, i.output, made[i.stage].name, "")
            if isinstance(i, Edge)
            else store.Source("", "", "", i.written)
            for i in items
        )
        for key, items in p.stage.inputs.items()
    }


def _publish(p: Planned, home: Path) -> None:
    """Link RUNS/<recipe>/<stage>, and what the kind shows at the top of the recipe's folder."""
    _link(home / p.stage.name, os.path.relpath(p.folder, home))
    for name in KINDS[p.stage.kind].publishes:
        if (p.folder / name).exists():
            _link(home / name, f"{p.stage.name}/{name}")


def _link(link: Path, target: str) -> None:
    if link.is_symlink() and str(link.readlink()) == target:
        return
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the stage's lock; a second process that makes the same stage waits, and then finds it made."""
    with folder.with_name(folder.name + ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            LOG.info("%s: another process is making it; waiting", folder.name)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Everything the stage logs also goes to its own file, with times."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        LOG.setLevel(level)
        LOG.removeHandler(handler)
        handler.close()
