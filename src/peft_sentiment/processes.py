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

from peft_sentiment.errors import InterruptionError, PeftSentimentError, ProcessError, SettingsError

if typing.TYPE_CHECKING:
    import torch

Value = TypeVar("Value")

GRACE_SECONDS = 3.0
"""Another process waits so long before it tells its error: the main process may be telling the same
one, and its end ends the others."""

FSDP = "ACCELERATE_USE_FSDP"
"""Variable of `accelerate launch` that asks to divide the frozen weights among the processes."""

UNSUPPORTED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
"""Other variables of it -> what they ask for, which divides the model in ways of its own."""


@dataclass(frozen=True)
class Processes:
    """The processes at work, seen from one of them; by default one alone.

    Attributes:
        rank: number of this process, from 0.
        count: processes in all.
        local_count: of them, those on this machine.
        device: of the tensors that are exchanged, such as `cpu` or `cuda:1`.
        shard_weights: whether a training divides the frozen weights among them, by FSDP.
    """

    rank: int = 0
    count: int = 1
    local_count: int = 1
    device: str = "cpu"
    shard_weights: bool = False

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
        yield get_processes()
        return
    processes = _join(device)
    # Nobody else is to divide the model: transformers would load it into the first process alone.
    with _without_variable(FSDP), _working_as(processes):
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
def _without_variable(name: str) -> Iterator[None]:
    value = os.environ.pop(name, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[name] = value


@contextmanager
def _working_as(processes: Processes) -> Iterator[None]:
    global _current
    before, _current = _current, processes
    try:
        yield
    finally:
        _current = before


def is_launched() -> bool:
    """Tell whether a launcher has started this process as one of several."""
    return count_launched("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE") > 1


def count_launched(*names: str) -> int:
    """Return the first of these environment variables that holds a number, or else 1."""
    return next((int(text) for name in names if (text := os.environ.get(name, "")).isdigit()), 1)


def is_restarted() -> bool:
    """Tell whether torchrun has started the processes anew, after one of them had died."""
    is_watched = "TORCHELASTIC_RUN_ID" in os.environ
    return is_watched and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def _join(device: str) -> Processes:
    for variable, name in UNSUPPORTED.items():
        if _is_set(variable):
            raise SettingsError(
                f"{variable} is set: {name} would divide the model in a way of its own. Launch "
                "without it; what divides the frozen weights here is FSDP (--use_fsdp "
                "--fsdp_version 2)."
            )
    if _is_set(FSDP) and os.environ.get("FSDP_VERSION", "1") != "2":
        raise SettingsError(
            f"{FSDP} is set and FSDP_VERSION is {os.environ.get('FSDP_VERSION', '1')}, but "
            "adapters need version 2, which divides weight by weight. Launch with --fsdp_version 2."
        )
    import torch
    from accelerate.state import AcceleratorState, PartialState

    AcceleratorState._reset_state(reset_partial_state=True)  # of a training alone, before
    is_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    with _losses_told():
        state = PartialState(cpu=is_cpu, **_open_own_store())
    local = _count_local()
    rank, count = state.process_index, state.num_processes
    processes = Processes(rank, count, local, str(state.device), _is_set(FSDP))
    processes.wait()  # One that ended at once would break off the others while they still connect.
    return processes


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true")


def _count_local() -> int:
    return count_launched("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")


def _open_own_store() -> dict[str, Any]:
    """Return by what processes that have been started anew find each other; empty for others.

    torchrun keeps one store over all its starts, and in it the addresses of processes that are
    gone. A process that is first would call one of these and be refused, so each start has a part
    of the store to itself. Its number is the same for all processes of one machine only.
    """
    is_kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    count = count_launched("WORLD_SIZE")
    if not (is_kept and is_restarted() and _count_local() == count):
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
