"""Work done by several processes at once, forked from the test so that nothing is imported anew."""

import contextlib
import multiprocessing
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import accelerate.state  # noqa: F401 - once, before they are forked
import torch
from free_port import find_free_port

from peft_sentiment.processes import joined_processes

SECONDS = 120.0


def run_together(
    work: Callable[[], Any], count: int = 2, is_joined: bool = True, port: int | None = None
) -> list[Any]:
    """Return what the work returns in each of several processes of one thread.

    Args:
        work: what each does.
        count: of processes.
        is_joined: whether they are joined before it, or join by themselves.
        port: of a store that others keep; without it, the first process opens one.
    """
    context = multiprocessing.get_context("fork")
    port = find_free_port() if port is None else port
    pairs = [context.Pipe(duplex=False) for _ in range(count)]
    children = [
        context.Process(target=_work_as, args=(rank, count, port, work, is_joined, pairs[rank][1]))
        for rank in range(count)
    ]
    for child in children:
        child.start()
    results = [_receive(end) for end, _ in pairs]
    for child in children:
        child.join(SECONDS)
    failures = [text for is_done, text in results if not is_done]
    assert not failures, "\n".join(failures)
    return [value for _, value in results]


def _receive(end: Connection) -> tuple[bool, Any]:
    if not end.poll(SECONDS):
        return False, f"no answer within {SECONDS:.0f} s"
    try:
        answer: tuple[bool, Any] = end.recv()
    except EOFError:
        return False, "the process has ended without an answer"
    return answer


def _work_as(
    rank: int, count: int, port: int, work: Callable[[], Any], is_joined: bool, end: Connection
) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ |= {name: str(number) for name, number in names.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    try:
        with joined_processes("cpu") if is_joined else contextlib.nullcontext():
            answer = (True, work())
    except BaseException:
        answer = (False, traceback.format_exc())
    end.send(answer)
    end.close()
    os._exit(0)  # Pytest's own end is the parent's.
