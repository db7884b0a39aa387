"""The processes that train one model together, one a GPU: `trainer: {devices, num_nodes, strategy}` of a model YAML.

Where torchrun or SLURM has started them (hlas.ranks), they are taken as they are. Otherwise rank 0 starts the others of
its machine itself, and not through Lightning: that would run the whole command line again in each of them, and kill
everything without a word when one of them dies.
"""

import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hlas.errors import UserError
from hlas.ranks import HERE, TIMEOUT, UNTIL_RANK_0_HAS, Rank, hand_out, launched, meeting_point, wait_for_leaving
from hlas.stage import Stage

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
_LOST = re.compile("closed by peer|[Cc]onnection reset|Broken pipe")  # as gloo says it, in plain RuntimeErrors
_NOTICED_S = 20.0  # within which a process that lost another mostly ends by itself: the exchange with it breaks
_FAILED_S = 5.0  # by which another may end later than the exchange with it breaks


def check_processes(trainer: Mapping[str, Any]) -> None:
    """Raise ValueError where the trainer's keys do not fix the number of processes, or how they exchange gradients."""
    for key in ("devices", "num_nodes"):
        number = trainer.get(key, 1)
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(
                f"trainer.{key}: {number!r} is not a number: it decides the global batch, and so the result; "
                "which GPUs are used is chosen with CUDA_VISIBLE_DEVICES"
            )
    strategy = trainer.get("strategy", "auto")
    if strategy not in STRATEGIES:
        raise ValueError(f"trainer.strategy: '{strategy}' is none of {', '.join(STRATEGIES)}")


@dataclass(frozen=True)
class Team:
    """The processes that train together, as one of them sees them."""

    me: Rank = field(default_factory=Rank)
    store: Any = None  # torch.distributed.TCPStore; None where there is one process

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.me.rank == 0

    @contextmanager
    def first_alone(self, what: str) -> Iterator[None]:
        """Rank 0 does the block at once, the others when it has: they find on disk what it made. No time limit."""
        key = f"hlas/did/{what}"
        if not self.first:
            self.store.wait([key], UNTIL_RANK_0_HAS)
        yield
        if self.first and self.store is not None:
            self.store.set(key, "")

    def trainer(self, trainer: Mapping[str, Any]) -> dict[str, Any]:
        """Lightning's arguments, with the strategy and the place of this process among the others filled in."""
        from lightning.pytorch.strategies import DDPStrategy

        own: dict[str, Any] = {"devices": 1, **trainer, "plugins": [_environment(self.me)]}
        own["use_distributed_sampler"] = False  # loading.py shares the batches itself
        own["strategy"] = "auto"  # one process has nothing to exchange
        if self.me.count > 1:
            unused = trainer.get("strategy") == "ddp_find_unused_parameters_true"
            own["strategy"] = DDPStrategy(find_unused_parameters=unused, timeout=TIMEOUT)
        return own


@contextmanager
def team(trainer: Mapping[str, Any], params: Any, stage: Stage) -> Iterator[Team]:
    """The processes of this training; those beyond the first are handed `params` and `stage` and run the same stage."""
    count = trainer.get("devices", 1) * trainer.get("num_nodes", 1)
    me = launched()
    if me is None and count == 1:
        yield Team()
    elif me is None:
        _check_one_machine(trainer, stage)
        _check_gpus(trainer, stage)
        with start_others(count, params, stage) as found, _clean():
            yield found
    else:
        _check_agreement(trainer, me, stage)
        _check_gpus(trainer, stage)
        found = Team(me, meeting_point(me))
        if found.first:
            hand_out(found.store, params, stage)
        with _clean(), _explained(me, stage):
            yield found
        if found.first:
            wait_for_leaving(found.store, me)


def _check_one_machine(trainer: Mapping[str, Any], stage: Stage) -> None:
    if (nodes := trainer.get("num_nodes", 1)) > 1:
        problem = f"trainer.num_nodes is {nodes}, but this process was started alone"
        raise UserError(stage.name, problem, "start it on every node with torchrun or SLURM: see tools/slurm/README.md")


def _check_agreement(trainer: Mapping[str, Any], me: Rank, stage: Stage) -> None:
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    if (devices, devices * nodes) != (me.local_count, me.count):
        asked = f"trainer.devices: {devices} and num_nodes: {nodes} ask for {devices * nodes} processes"
        here = f"{me.count} were started, {me.local_count} of them on this node"
        fix = (
            f"--set {stage.name}.trainer.devices={me.local_count} --set {stage.name}.trainer.num_nodes="
            f"{me.count // me.local_count} (another global batch, so another result), or start as many as are asked for"
        )
        raise UserError(stage.name, f"{asked}, but {here}", fix)


def _check_gpus(trainer: Mapping[str, Any], stage: Stage) -> None:
    import torch

    devices, accelerator = trainer.get("devices", 1), trainer.get("accelerator", "auto")
    there = torch.cuda.device_count()
    if there < devices and (accelerator in ("gpu", "cuda") or (accelerator == "auto" and there)):
        fix = "check CUDA_VISIBLE_DEVICES; under SLURM give the GPUs to the node (--gpus-per-node), not to its tasks"
        raise UserError(stage.name, f"trainer.devices is {devices}, but this process sees {there} GPUs", fix)


@contextmanager
def start_others(count: int, params: Any, stage: Stage) -> Iterator[Team]:
    """Start the others on this machine; they end with the block, or with this process."""
    import torch.distributed as dist

    store = dist.TCPStore(HERE, 0, None, True, TIMEOUT, wait_for_workers=False, multi_tenant=True)  # 0: any free port
    me = Rank(0, count, 0, count, 0, HERE, store.port)
    stage.log.info("%s: %d processes", stage.name, count)
    others = Others(me, stage)
    try:
        hand_out(store, params, stage)
        yield Team(me, store)
        others.wait()
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:  # an exchange with a process that is gone breaks with whatever the backend says
        if message := others.failure(_FAILED_S):
            raise message from error
        raise
    finally:
        others.end()


class Others:
    """The processes beyond the first, started and watched by it."""

    def __init__(self, me: Rank, stage: Stage) -> None:
        self._stage = stage
        self._over = threading.Event()  # this process has noticed by itself, or is done
        command = [sys.executable, "-c", "from hlas.ranks import main; main()"]
        shared = {"MASTER_ADDR": me.address, "MASTER_PORT": str(me.port), "WORLD_SIZE": str(me.count)}
        shared["LOCAL_WORLD_SIZE"] = str(me.local_count)
        shared["TORCH_CPP_LOG_LEVEL"] = "FATAL"  # what it says when rank 0 ends, it says in twenty lines of C++
        self._all = [
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # closed when this process ends, however it does: so they end, too
                env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                start_new_session=True,  # Ctrl-C is for this process to answer
            )
            for rank in range(1, me.count)
        ]
        for process in self._all:
            threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    def wait(self) -> None:
        """Until all are done; UserError where one failed."""
        for process in self._all:
            process.wait(TIMEOUT.total_seconds())
        if message := self.failure(0):
            raise message

    def failure(self, within_s: float) -> UserError | None:
        """The error of a process that failed, or does so within that time."""
        self._over.set()
        for rank, process in enumerate(self._all, 1):
            try:
                code = process.wait(within_s)
            except subprocess.TimeoutExpired:
                continue
            if code:
                return self._error(rank, code)
        return None

    def end(self) -> None:
        """End those that are still there."""
        self._over.set()
        for process in self._all:
            if process.stdin:
                process.stdin.close()
            process.wait()

    def _error(self, rank: int, code: int) -> UserError:
        how = f"was killed by signal {-code}" if code < 0 else f"failed with exit status {code}"
        fix = "see its message above, if it left one (signal 9 often means: out of memory); the same command goes on"
        return UserError(self._stage.name, f"process {rank + 1} of {len(self._all) + 1} {how}", fix)

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """End this process where another failed and the main thread hangs in an exchange with it."""
        code = process.wait()
        if code and not self._over.wait(_NOTICED_S):
            error = self._error(self._all.index(process) + 1, code)
            logging.getLogger("hlas").debug("%s", error)  # the stage's log file
            print(f"error: {error}", file=sys.stderr, flush=True)
            os._exit(2)  # the lock is freed, and the partial folder is what the next run goes on from


@contextmanager
def _explained(me: Rank, stage: Stage) -> Iterator[None]:
    """Turn what the backends say of a process that is gone into a UserError."""
    import torch.distributed as dist

    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or _LOST.search(str(error))):
            raise
        fix = "see the message of the process that failed first; the same command goes on from the last epoch"
        raise UserError(stage.name, f"{me} lost another: {str(error).splitlines()[0]}", fix) from error


@contextmanager
def _clean() -> Iterator[None]:
    """Leave no process group, and no variable of its, to the stages after this one."""
    import torch
    import torch.distributed as dist

    keys = ("MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")
    before, threads = {key: os.environ.get(key) for key in keys}, torch.get_num_threads()
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
        torch.set_num_threads(threads)


def _environment(me: Rank) -> Any:
    """What Lightning asks about this process, so that it looks for no launcher itself."""
    from lightning.fabric.plugins.environments import LightningEnvironment

    class Environment(LightningEnvironment):  # type: ignore[misc]  # lightning is untyped here
        """A process whose place is known."""

        creates_processes_externally = True
        main_address = me.address
        main_port = me.port

        def world_size(self) -> int:
            return me.count

        def global_rank(self) -> int:
            return me.rank

        def local_rank(self) -> int:
            return me.local_rank

        def node_rank(self) -> int:
            return me.node

        def set_world_size(self, size: int) -> None:
            """It is fixed."""

        def set_global_rank(self, rank: int) -> None:
            """It is fixed."""

        def teardown(self) -> None:
            """Nothing was set."""

    return Environment()
