"""Texts are gathered by tokens and by time, and what does not fit the queue is refused."""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from peft_sentiment.config import ServiceSettings
from peft_sentiment.model.workspace import Workspace
from peft_sentiment.serving.batcher import SHORT_BATCH, Batcher
from peft_sentiment.serving.metrics import ServiceMetrics
from peft_sentiment.serving.refusals import Refusal
from peft_sentiment.serving.scoring import Work

SERVED: Any = object()
"""Stands for an adapter; nothing here asks it."""


class Recorder:
    """Answers each text with its length, and notes the batches.

    Attributes:
        gate: batches wait until it is set.
    """

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def score(self, batch: Sequence[Work], _workspace: Workspace) -> list[NDArray[np.float32]]:
        self.batches.append([len(ids) for _, ids in batch])
        assert self.gate.wait(timeout=20)
        return [np.array([len(ids)], np.float32) for _, ids in batch]


def make_tokens(*lengths: int) -> list[NDArray[np.int32]]:
    return [np.zeros(length, np.int32) for length in lengths]


class Running:
    """A batcher with one thread, for a block."""

    def __init__(self, recorder: Recorder, **settings: Any) -> None:  # noqa: ANN401
        self._settings, self._recorder = ServiceSettings(**settings), recorder

    async def __aenter__(self) -> Batcher:
        score = self._recorder.score
        self.batcher = Batcher(self._settings, score, 1, ServiceMetrics())
        self.task = asyncio.create_task(self.batcher.run())
        return self.batcher

    async def __aexit__(self, *_: object) -> None:
        self._recorder.gate.set()
        self.task.cancel()
        self.batcher.close()


def test_every_text_gets_its_own_answer() -> None:
    async def run() -> None:
        lengths = list(range(1, 60))
        async with Running(Recorder(), batch_tokens=100) as batcher:
            asked = [batcher.submit(SERVED, make_tokens(length))[0] for length in lengths]
            answers = await asyncio.gather(*asked)
        assert [int(answer[0]) for answer in answers] == lengths

    asyncio.run(run())


def test_texts_join_a_batch_up_to_its_tokens() -> None:
    async def run() -> None:
        recorder = Recorder()
        async with Running(recorder, batch_tokens=100, batch_delay_ms=500) as batcher:
            await asyncio.gather(*batcher.submit(SERVED, make_tokens(40, 40, 40, 300, 40)))
        assert recorder.batches == [[40, 40], [40], [300], [40]]

    asyncio.run(run())


def test_a_lonely_text_waits_no_longer_than_it_must() -> None:
    async def run() -> None:
        recorder = Recorder()
        async with Running(recorder, batch_tokens=100, batch_delay_ms=20) as batcher:
            first = batcher.submit(SERVED, make_tokens(5))
            await asyncio.sleep(0.001)
            second = batcher.submit(SERVED, make_tokens(6))
            await asyncio.gather(*first, *second)
        assert recorder.batches == [[5, 6]]

    asyncio.run(run())


def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    async def run() -> None:
        recorder = Recorder()
        recorder.gate.clear()
        async with Running(recorder, batch_tokens=10, queue_tokens=50) as batcher:
            accepted = batcher.submit(SERVED, make_tokens(10))
            while not recorder.batches:  # it is being computed, and waits no more
                await asyncio.sleep(0.01)
            accepted += batcher.submit(SERVED, make_tokens(25, 25))
            with pytest.raises(Refusal) as refused:
                batcher.submit(SERVED, make_tokens(1))
            assert (refused.value.status, refused.value.code) == (503, "queue_full")
            assert int(refused.value.headers["Retry-After"]) >= 1
            recorder.gate.set()
            assert len(await asyncio.gather(*accepted)) == 3
            await asyncio.gather(*batcher.submit(SERVED, make_tokens(1)))

    asyncio.run(run())


def test_what_nobody_waits_for_is_not_computed() -> None:
    async def run() -> None:
        recorder = Recorder()
        recorder.gate.clear()
        async with Running(recorder, batch_tokens=10) as batcher:
            first = batcher.submit(SERVED, make_tokens(10))
            while not recorder.batches:
                await asyncio.sleep(0.01)
            given_up = batcher.submit(SERVED, make_tokens(9))
            last = batcher.submit(SERVED, make_tokens(8))
            given_up[0].cancel()
            recorder.gate.set()
            await asyncio.gather(*first, *last)
        assert recorder.batches == [[10], [8]]

    asyncio.run(run())


def test_a_failed_batch_fails_its_texts_and_no_others() -> None:
    async def run() -> None:
        recorder = Recorder()

        def score(batch: Sequence[Work], workspace: Workspace) -> list[NDArray[np.float32]]:
            if len(batch[0][1]) == 13:
                raise ValueError("unlucky")
            return recorder.score(batch, workspace)

        batcher = Batcher(ServiceSettings(batch_tokens=13), score, 1, ServiceMetrics())
        task = asyncio.create_task(batcher.run())
        bad, good = (batcher.submit(SERVED, make_tokens(n))[0] for n in (13, 5))
        with pytest.raises(ValueError, match="unlucky"):
            await bad
        assert int((await good)[0]) == 5
        task.cancel()
        batcher.close()

    asyncio.run(run())


def test_idle_threads_share_what_waits() -> None:
    async def run() -> None:
        recorder = Recorder()
        batcher = Batcher(ServiceSettings(batch_tokens=100), recorder.score, 2, ServiceMetrics())
        task = asyncio.create_task(batcher.run())
        started = time.monotonic()
        await asyncio.gather(*batcher.submit(SERVED, make_tokens(30, 30)))
        assert time.monotonic() - started < 20
        assert recorder.batches == [[30], [30]]
        task.cancel()
        batcher.close()

    asyncio.run(run())


def test_batches_grow_with_the_queue() -> None:
    async def run() -> None:
        recorder = Recorder()
        recorder.gate.clear()
        async with Running(recorder, batch_tokens=2 * SHORT_BATCH) as batcher:
            asked = batcher.submit(SERVED, make_tokens(10))
            while not recorder.batches:
                await asyncio.sleep(0.01)
            quarters = [SHORT_BATCH // 4] * 32
            asked += batcher.submit(SERVED, make_tokens(*quarters))
            recorder.gate.set()
            await asyncio.gather(*asked)
        sizes = [sum(batch) / SHORT_BATCH for batch in recorder.batches[1:]]
        assert sizes[0] == 2  # as much as may be, of 8 that wait
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-2] == 1  # of the last two

    asyncio.run(run())
