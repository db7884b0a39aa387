"""Several processes that make one stage together: which of them this is, and how the first hands the others their work.

torchrun and SLURM start all of them with one command; on one machine the stage starts the others itself. Rank 0 is an
ordinary run: it plans, locks, writes and publishes. The others plan and publish nothing. They wait at a key-value store
that rank 0 or torchrun holds open (torch's TCPStore) until rank 0 hands them the stage that it has begun, and leave
when there is nothing for them to do. A store, and no file: a shared file system shows a new file seconds late, and a
connection breaks when its other end dies.
"""

import functools
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.stage import Input, Stage
from hlas.stages import KINDS

LOG = logging.getLogger("hlas")
HERE = "127.0.0.1"
TIMEOUT = timedelta(minutes=30)  # to find one another, and of one exchange between the processes while they work
UNTIL_RANK_0_HAS = timedelta(days=30)  # waited for its lock, or prepared the data; if it dies, the connection breaks
_LEAVING = timedelta(minutes=1)
_JOB = "hlas/job"
_FIRST_TASK_PORT, _PORTS = 15000, 10000  # for SLURM's jobs: below the ports that systems give out by themselves


@dataclass(frozen=True, slots=True)
class Rank:
    """One of several processes that work together."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0  # among those of its node
    local_count: int = 1
    node: int = 0
    address: str = HERE  # of the store
    port: int = 0
    hosted: bool = False  # the launcher holds the store open, not rank 0

    def __str__(self) -> str:
        return f"process {self.rank + 1} of {self.count}"


def launched(environ: Mapping[str, str] = os.environ) -> Rank | None:
    """Which of several processes this is by the variables of torchrun or of srun; None where it is the only one."""
    number = {key: int(value) for key, value in environ.items() if re.fullmatch(r"\d+", value)}
    if number.get("WORLD_SIZE", 1) > 1 and "RANK" in number:
        count = number["WORLD_SIZE"]
        return Rank(
            number["RANK"],
            count,
            number.get("LOCAL_RANK", number["RANK"]),
            number.get("LOCAL_WORLD_SIZE", count),
            number.get("GROUP_RANK", 0),
            environ.get("MASTER_ADDR", HERE),
            number.get("MASTER_PORT", 29500),  # torchrun's own default
            environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        )
    if number.get("SLURM_STEP_NUM_TASKS", 1) > 1 and "SLURM_PROCID" in number:
        count = number["SLURM_STEP_NUM_TASKS"]
        job = number.get("SLURM_JOB_ID", 0) + number.get("SLURM_STEP_ID", 0)
        return Rank(
            number["SLURM_PROCID"],
            count,
            number.get("SLURM_LOCALID", 0),
            count // number.get("SLURM_STEP_NUM_NODES", 1),
            number.get("SLURM_NODEID", 0),
            environ.get("MASTER_ADDR") or first_host(environ.get("SLURM_STEP_NODELIST", HERE)),
            number.get("MASTER_PORT", _FIRST_TASK_PORT + job % _PORTS),
        )
    return None


def first_host(hosts: str) -> str:
    """The first host of SLURM's short form: 'gpu05' of 'gpu[05-07,12],cpu1'."""
    return re.sub(r"\[([^],-]+)[^]]*\]", r"\1", hosts).partition(",")[0]


@functools.cache  # one connection a process
def meeting_point(me: Rank) -> Any:
    """The store at which the processes meet: a torch.distributed.TCPStore."""
    import torch.distributed as dist

    hosts = me.rank == 0 and not me.hosted
    try:
        # multi_tenant: Lightning meets at the same port
        return dist.TCPStore(me.address, me.port, None, hosts, TIMEOUT, wait_for_workers=False, multi_tenant=True)
    except dist.DistError as error:
        verb = "could not listen at" if hosts else "does not reach"
        fix = "set MASTER_ADDR and MASTER_PORT to a host and a free port that all nodes reach"
        raise UserError(f"{me}", f"{verb} {me.address}:{me.port}: {str(error).splitlines()[0]}", fix) from error


@dataclass(frozen=True)
class Job:
    """What rank 0 hands the others: the stage that it has begun, so that all of them do the very same."""

    kind: str
    name: str
    recipe: str
    folder: Path
    inputs: dict[str, tuple[Input, ...]]
    workers: int
    params: dict[str, Any]


def hand_out(store: Any, params: Any, stage: Stage) -> None:
    """Let the others begin with the stage."""
    from pydantic import TypeAdapter

    if stage.language is not None:
        raise ValueError(f"a '{stage.kind}' stage has a language, which is not handed out")
    plain = TypeAdapter(type(params)).dump_python(params, mode="json")
    job = Job(stage.kind, stage.name, stage.recipe, stage.folder, dict(stage.inputs), stage.workers, plain)
    store.set(_JOB, TypeAdapter(Job).dump_json(job))


def join(me: Rank) -> None:
    """All that a process beyond the first does: wait for the job, do its share, leave; quietly."""
    _quiet(me)
    store = meeting_point(me)
    try:
        store.wait([_JOB], UNTIL_RANK_0_HAS)
        text = store.get(_JOB)
    except RuntimeError as error:  # torch.distributed.DistError: its other end is gone
        raise UserError(f"{me}", "the first process ended before the work began", "see its message") from error
    if text:
        try:
            _work(text)
        except UserError as error:
            raise UserError(f"{me}", str(error)) from error
    store.set(_left(me.rank), "")


def _work(text: bytes) -> None:
    from pydantic import TypeAdapter

    job = TypeAdapter(Job).validate_json(text)
    module = import_module(KINDS[job.kind].module)
    params = TypeAdapter(module.Params).validate_python(job.params)
    module.run(params, Stage(job.name, job.kind, job.folder, job.inputs, None, LOG, job.workers, job.recipe))


def wait_for_leaving(store: Any, me: Rank, timeout: timedelta = TIMEOUT) -> None:
    """Rank 0 stays until the others are done: the store that they still talk to may be its own."""
    store.wait([_left(rank) for rank in range(1, me.count)], timeout)


def _left(rank: int) -> str:
    return f"hlas/left/{rank}"


@contextmanager
def leading(me: Rank) -> Iterator[None]:
    """Rank 0 of a launched run: where it hands out nothing, as all is made or an error came first, the others leave."""
    store = meeting_point(me)
    try:
        yield
    finally:
        if not store.check([_JOB]):
            store.set(_JOB, "")
            try:
                wait_for_leaving(store, me, _LEAVING)
            except RuntimeError:  # torch.distributed.DistError
                LOG.warning("some of the %d processes were not there to be told that there is no work", me.count)


def check_launch(me: Rank, recipe: Path, only: str, kinds: Mapping[str, str]) -> None:
    """Raise UserError unless the launched processes are to make one stage that several can; `kinds`: of each stage."""
    able = [name for name, kind in kinds.items() if KINDS[kind].distributed]
    if only in able:
        return
    if me.rank:
        sys.exit(2)  # rank 0 says why
    if not able:
        fix = "start hlas by itself"
    else:
        fix = f"make the stages before it first, by hlas alone (--to); then start: hlas run {recipe} --only {able[0]}"
    problem = f"{me.count} processes were started, but only one stage of training is made by several"
    raise UserError(f"--only {only}".strip(), problem, fix)


def _quiet(me: Rank) -> None:
    """Of all but the first process only warnings are shown, with the process that they come from."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter(f"{me}: %(message)s"))
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(logging.WARNING)


def main() -> None:
    """Entry point of the processes that a stage starts on its own machine; each lives as long as its standard input."""
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    me = launched()
    assert me is not None
    try:
        join(me)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _end_with_stdin() -> None:
    os.read(0, 1)  # ends when rank 0 closes it, or is gone
    os._exit(1)  # the main thread may hang in an exchange with a process that is gone
