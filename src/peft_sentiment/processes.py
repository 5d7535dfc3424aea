"""The processes that do one command together, and what they tell each other.

`torchrun` and `accelerate launch` start the same command several times. All of them go the same
way; where one of the functions below is called, all call it. The first one, the main process,
writes and prints. Torch is imported only where there is more than one process.
"""

import os
import sys
import time
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from peft_sentiment.errors import InterruptionError, PeftSentimentError, ProcessError
from peft_sentiment.launchers import (
    Sharding,
    choose_sharding,
    count_launched,
    count_local,
    is_launched,
    is_restarted,
    sharding_untold,
)

if typing.TYPE_CHECKING:
    import torch

Value = TypeVar("Value")

GRACE_SECONDS = 3.0
"""Another process waits so long before it tells its error: the main process may be telling the same
one, and its end ends the others."""


@dataclass(frozen=True)
class Processes:
    """The processes at work, seen from one of them; by default one alone.

    Attributes:
        rank: number of this process, from 0.
        count: processes in all.
        local_count: of them, those on this machine.
        device: of the tensors that are exchanged, such as `cpu` or `cuda:1`.
        sharding: what divides a training's frozen weights among them.
    """

    rank: int = 0
    count: int = 1
    local_count: int = 1
    device: str = "cpu"
    sharding: Sharding = ""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    @property
    def share_memory(self) -> bool:
        """Whether all are on one machine."""
        return self.local_count == self.count

    def agree(self, compute: Callable[[], Value]) -> Value:
        """Return, in every process, what the main one computes.

        Raises:
            PeftSentimentError: what the main process meets.
            ProcessError: a process has ended.
        """
        if self.count == 1:
            return compute()
        from torch import distributed

        message: list[Any] = [None, None]
        if self.is_main:
            try:
                message = [compute(), None]
            except PeftSentimentError as error:
                message = [None, error]
        with _losses_told():
            distributed.broadcast_object_list(message, src=0)
        if message[1] is not None:
            raise message[1]
        value: Value = message[0]
        return value

    def any(self, flag: bool) -> bool:
        """Tell whether a flag is set in any process."""
        if self.count == 1:
            return flag
        import torch

        flags = torch.tensor(float(flag))
        self.add_up(flags)
        return bool(flags)

    def add_up(self, values: "torch.Tensor") -> None:
        """Put the sum over all processes in the place of a tensor's values."""
        if self.count == 1:
            return
        from torch import distributed

        with _losses_told():
            moved = values.to(self.device)
            distributed.all_reduce(moved)
            if moved is not values:
                values.copy_(moved)

    def align(self, tensors: Sequence["torch.Tensor"]) -> None:
        """Give every process the main one's values of these tensors."""
        if self.count == 1:
            return
        import torch
        from torch import distributed

        with _losses_told(), torch.no_grad():
            for tensor in tensors:
                moved = tensor.detach().to(self.device).contiguous()
                distributed.broadcast(moved, src=0)
                tensor.copy_(moved)

    def wait(self) -> None:
        """Go on when all processes have come here."""
        self.any(False)


_current = Processes()


def get_processes() -> Processes:
    """Return the processes at work: one alone outside of `joined_processes`."""
    return _current


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """Work together, in this block, with the processes that have been started for the command.

    An error of the main process passes through. Another process tells its own, with its number,
    and exits.

    Args:
        device: as in the setting `model.device`.

    Raises:
        SettingsError: the launcher asks for what this program can't do.
    """
    if not is_launched():
        with sharding_untold():  # There is nobody to divide weights with.
            yield get_processes()
        return
    sharding = choose_sharding()
    with sharding_untold(), _working_as(_join(device, sharding)):
        processes = get_processes()
        try:
            yield processes
        except (PeftSentimentError, KeyboardInterrupt) as error:
            if processes.is_main:
                raise
            raise SystemExit(_tell(error, processes.rank)) from error
    _leave()


@contextmanager
def working_alone() -> Iterator[None]:
    """Let this process ask nothing of the others in this block, which may have ended."""
    with _working_as(Processes(rank=get_processes().rank)):
        yield


@contextmanager
def _working_as(processes: Processes) -> Iterator[None]:
    global _current
    before, _current = _current, processes
    try:
        yield
    finally:
        _current = before


def _join(device: str, sharding: Sharding) -> Processes:
    import torch
    from accelerate.state import AcceleratorState, PartialState

    AcceleratorState._reset_state(reset_partial_state=True)  # of a training alone, before
    is_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    with _losses_told():
        state = PartialState(cpu=is_cpu, **_open_own_store())
    rank, count = state.process_index, state.num_processes
    processes = Processes(rank, count, count_local(), str(state.device), sharding)
    processes.wait()  # One that ended at once would break off the others while they still connect.
    return processes


def _open_own_store() -> dict[str, Any]:
    """Return by what processes that have been started anew find each other; empty for others.

    torchrun keeps one store over all its starts, and in it the addresses of processes that are
    gone. A process that is first would call one of these and be refused, so each start has a part
    of the store to itself. Its number is the same for all processes of one machine only.
    """
    is_kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    count = count_launched("WORLD_SIZE")
    if not (is_kept and is_restarted() and count_local() == count):
        return {}
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    start = f"start {os.environ['TORCHELASTIC_RESTART_COUNT']}"
    rank = int(os.environ["RANK"])
    return {"store": PrefixStore(start, store), "rank": rank, "world_size": count}


def _leave() -> None:
    from accelerate.state import AcceleratorState, PartialState

    PartialState().destroy_process_group()
    AcceleratorState._reset_state(reset_partial_state=True)


def _tell(error: BaseException, rank: int) -> int:
    """Tell the error of a process that is not the main one; return its exit code."""
    if isinstance(error, PeftSentimentError):
        if not isinstance(error, InterruptionError):
            time.sleep(GRACE_SECONDS)
            print(f"peft-sentiment, process {rank}: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 130


@contextmanager
def _losses_told() -> Iterator[None]:
    """Turn what torch says of a broken connection into words.

    Raises:
        ProcessError: a process has ended, or can't be reached.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:200]
        raise ProcessError(
            f"The connection to the other processes is lost ({reason}). One of them has ended: see "
            "its own error. What was stored before is unchanged; the same command with --resume "
            "goes on from the last checkpoint."
        ) from error
