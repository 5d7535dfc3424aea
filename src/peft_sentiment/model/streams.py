"""Streams of work, each on its own reviews, in place of one whose operations all threads share.

Operations on the matrices of a few reviews are too short for that: two threads compute a product
of attention 1.4 times as fast as one. So there is a stream a core. Each may use a core besides its
own: while one stream is in Python or in an operation of a single thread, another uses both.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from peft_sentiment.model.workspace import Workspace

Job = TypeVar("Job")
Result = TypeVar("Result")

MOST_STREAMS = 8
"""With more, Python itself would be waited for: streams then have several threads each. Up to two
are measured."""

OVERLAP = 2
"""Threads that a stream has for each core that is its share. On two cores, training and scoring
were a quarter and an eighth faster than with 1, and training a quarter faster than in one stream
of two threads (docs/experiments.md, 2026-11-26)."""


def count_streams() -> int:
    """Return how many streams the caller's threads are worth."""
    return min(torch.get_num_threads(), MOST_STREAMS)


def count_stream_threads(streams: int, threads: int) -> int:
    """Return how many threads each of so many streams has, where there are so many threads."""
    return max(1, min(threads, OVERLAP * threads // streams))


def map_streams(
    work: Callable[[Job, Workspace], Result], jobs: Iterable[Job], streams: int
) -> Iterator[Result]:
    """Yield the results of the jobs in their order; at most two jobs a stream are under way.

    Args:
        work: does a job in a workspace that no other job uses meanwhile.
        jobs: taken as needed, so that there may be any number of them.
        streams: how many jobs to do at once.
    """
    if streams == 1:
        for job in jobs:  # with all the caller's threads
            yield work(job, _get_workspace())
        return
    pool, waiting = _get_pool(streams, torch.get_num_threads(), os.getpid()), []
    try:
        for job in jobs:
            waiting.append(pool.submit(lambda job: work(job, _get_workspace()), job))
            if len(waiting) >= 2 * streams:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        for future in waiting:
            future.cancel()


def set_own_threads(count: int) -> None:
    """Let the operations of the calling thread run on so many threads.

    Torch begins in every thread at its first operation there, with the number that was set last for
    all; a number that was set in the thread before would be forgotten.
    """
    torch.get_num_threads()  # begins
    torch.set_num_threads(count)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let the operations of this block run on the caller's thread alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@functools.lru_cache(maxsize=1)
def _get_pool(streams: int, threads: int, _process: int) -> ThreadPoolExecutor:
    """Return the streams' own threads; made anew in a forked process, which has none of them."""
    ready = threading.Barrier(streams + 1)

    def start() -> None:
        set_own_threads(count_stream_threads(streams, threads))
        ready.wait()

    pool = ThreadPoolExecutor(streams, thread_name_prefix="stream", initializer=start)
    for _ in range(streams):
        pool.submit(int)
    ready.wait()
    torch.set_num_threads(threads)  # torch also keeps the last number set for threads to come
    return pool


_local = threading.local()


def _get_workspace() -> Workspace:
    if not hasattr(_local, "workspace"):
        _local.workspace = Workspace()
    workspace: Workspace = _local.workspace
    return workspace
