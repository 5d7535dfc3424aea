"""Streams give the results of their jobs in order, and errors as they are."""

import threading

import pytest
import torch

from peft_sentiment.model.streams import (
    OVERLAP,
    count_stream_threads,
    map_streams,
    one_thread,
)
from peft_sentiment.model.workspace import Workspace


@pytest.mark.parametrize("streams", [1, 2])
def test_results_come_in_the_order_of_the_jobs(streams: int) -> None:
    assert list(map_streams(lambda job, _: job * job, range(20), streams)) == [
        n * n for n in range(20)
    ]


def test_each_stream_has_its_threads_and_a_workspace_of_its_own() -> None:
    barrier = threading.Barrier(2, timeout=20)

    def look(_job: int, workspace: Workspace) -> tuple[int, int]:
        barrier.wait()
        torch.ones(100_000).exp_()  # Torch begins in a thread when it first computes there.
        return torch.get_num_threads(), id(workspace)

    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        looks = list(map_streams(look, range(8), 4 // OVERLAP))
        several = list(map_streams(lambda _job, _: torch.get_num_threads(), range(8), 4))
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert {count for count, _ in looks} == {4}
    assert len({workspace for _, workspace in looks}) == 2
    assert set(several) == {OVERLAP}


@pytest.mark.parametrize(
    ("streams", "threads", "each"), [(2, 2, 2), (8, 8, 2), (8, 32, 8), (2, 1, 1)]
)
def test_streams_have_twice_their_share_of_the_threads(
    streams: int, threads: int, each: int
) -> None:
    assert count_stream_threads(streams, threads) == each


def test_jobs_are_taken_as_they_are_needed() -> None:
    taken = []

    def jobs() -> object:
        for number in range(100):
            taken.append(number)
            yield number

    results = map_streams(lambda job, _: job, jobs(), 2)  # type: ignore[arg-type]
    next(results)
    assert len(taken) <= 4
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("streams", [1, 2])
def test_an_error_in_a_stream_reaches_the_caller(streams: int) -> None:
    def fail(job: int, _: Workspace) -> int:
        if job == 3:
            raise MemoryError("no more")
        return job

    with pytest.raises(MemoryError, match="no more"):
        list(map_streams(fail, range(10), streams))
    assert list(map_streams(lambda job, _: job, [1, 2], streams)) == [1, 2]


def test_one_thread_is_given_back() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
