"""Texts of many requests, gathered into batches by tokens and by time, from a bounded queue."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from peft_sentiment.config import ServiceSettings
from peft_sentiment.model.streams import set_own_threads
from peft_sentiment.model.workspace import Workspace
from peft_sentiment.serving.metrics import ServiceMetrics
from peft_sentiment.serving.refusals import refuse_for_now
from peft_sentiment.serving.scoring import Work
from peft_sentiment.serving.served import Servable

MOST_TEXTS = 64
"""Texts of a batch, at most; keeps the shapes that are computed few."""

SHORT_BATCH = 384
"""Tokens of a batch while few wait, a window or two: those who come during it wait the less."""

BACKLOG_BATCHES = 2
"""Batches for each thread into which a long queue is divided. Large batches compute a text in less
time."""

LONGEST_RETRY = 60
"""Seconds that a client is asked to wait, at most."""

NEWEST_SHARE = 0.2
"""Weight of the last batch in the mean rate."""

Score = Callable[[Sequence[Work], Workspace], list[NDArray[np.float32]]]


@dataclass(eq=False)
class Waiting:
    """One text that waits for its logits."""

    served: Servable
    token_ids: NDArray[np.int32]
    answer: asyncio.Future[NDArray[np.float32]]
    since: float


class Batcher:
    """Gathers texts and has them computed by threads, one batch a thread at a time.

    All methods belong to the thread of the event loop.
    """

    def __init__(
        self, settings: ServiceSettings, score: Score, streams: int, metrics: ServiceMetrics
    ) -> None:
        """Make the threads; `run` starts the work.

        Args:
            settings: sizes of batch and queue, and the delay.
            score: computes a batch.
            streams: batches computed at once.
            metrics: told of each batch.
        """
        self._settings, self._score, self._metrics = settings, score, metrics
        self._queue: deque[Waiting] = deque()
        self._waiting_tokens = 0
        self._arrived = asyncio.Event()
        self._freed = asyncio.Event()
        self._idle = self._streams = streams
        self._tokens_per_second: float | None = None
        self._local = threading.local()
        # One for each core in all: with more, each operation of a batch would wait for the thread
        # that has lost its core to another batch or to the event loop.
        threads = max(1, torch.get_num_threads() // streams)
        self._pool = ThreadPoolExecutor(
            streams, thread_name_prefix="batch", initializer=lambda: set_own_threads(threads)
        )

    def submit(
        self, served: Servable, token_ids: Sequence[NDArray[np.int32]]
    ) -> list[asyncio.Future[NDArray[np.float32]]]:
        """Put the texts of one request into the queue, all or none.

        Returns:
            What is going to hold the (C,) logits of each.

        Raises:
            Refusal: the queue is full.
        """
        tokens, loop = sum(map(len, token_ids)), asyncio.get_running_loop()
        if self._queue and self._waiting_tokens + tokens > self._settings.queue_tokens:
            message = f"{self._waiting_tokens:,} tokens are waiting, as many as may. Try later."
            raise refuse_for_now("queue_full", message, self.estimate_wait())
        now = loop.time()
        waiting = [Waiting(served, ids, loop.create_future(), now) for ids in token_ids]
        self._queue.extend(waiting)
        self._count_tokens(tokens)
        self._arrived.set()
        return [item.answer for item in waiting]

    def estimate_wait(self) -> int:
        """Return the seconds until what waits now is done, from 1 up."""
        if self._tokens_per_second is None:
            return 1
        seconds = math.ceil(self._waiting_tokens / (self._tokens_per_second * self._streams))
        return min(max(1, seconds), LONGEST_RETRY)

    async def run(self) -> None:
        """Compute batches until this is cancelled."""
        while True:
            while not self._idle:
                self._freed.clear()
                await self._freed.wait()
            await self._wait_for_batch()
            if batch := self._take_batch():
                self._start(batch)

    def close(self) -> None:
        """End the threads after their present batches; what still waits is given up."""
        for item in self._queue:
            item.answer.cancel()
        self._queue.clear()
        self._count_tokens(-self._waiting_tokens)
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _wait_for_batch(self) -> None:
        """Return when there are tokens for a batch, or the oldest text has waited long enough."""
        settings, loop = self._settings, asyncio.get_running_loop()
        while True:
            if not self._queue:
                left = None
            elif self._waiting_tokens >= min(settings.batch_tokens, SHORT_BATCH):
                return
            else:
                left = self._queue[0].since + settings.batch_delay_ms / 1000 - loop.time()
                if left <= 0:
                    return
            self._arrived.clear()
            try:
                async with asyncio.timeout(left):
                    await self._arrived.wait()
            except TimeoutError:
                return

    def _take_batch(self) -> list[Waiting]:
        """Take the oldest texts: what the idle threads would have each, up to a whole batch.

        A whole batch is short while few wait, and grows with the queue.
        """
        waiting, tokens = self._waiting_tokens, 0
        share = math.ceil(waiting / self._idle)
        whole = max(SHORT_BATCH, math.ceil(waiting / (BACKLOG_BATCHES * self._streams)))
        most = min(self._settings.batch_tokens, whole, share)
        batch: list[Waiting] = []
        while self._queue and len(batch) < MOST_TEXTS:
            item = self._queue[0]
            if batch and tokens + len(item.token_ids) > most:
                break
            self._queue.popleft()
            self._count_tokens(-len(item.token_ids))
            if not item.answer.done():  # else nobody waits for it any more
                batch.append(item)
                tokens += len(item.token_ids)
        return batch

    def _start(self, batch: list[Waiting]) -> None:
        loop = asyncio.get_running_loop()
        self._idle -= 1
        for item in batch:
            self._metrics.queue_seconds.observe(loop.time() - item.since)
        computed = loop.run_in_executor(self._pool, self._compute, batch)
        computed.add_done_callback(lambda done: self._finish(batch, done))

    def _compute(self, batch: list[Waiting]) -> tuple[list[NDArray[np.float32]], float]:
        """Compute a batch in the calling thread; return the logits and the seconds."""
        if not hasattr(self._local, "workspace"):
            self._local.workspace = Workspace()
        start = time.perf_counter()
        work = [(item.served, item.token_ids) for item in batch]
        return self._score(work, self._local.workspace), time.perf_counter() - start

    def _finish(
        self,
        batch: list[Waiting],
        computed: asyncio.Future[tuple[list[NDArray[np.float32]], float]],
    ) -> None:
        self._idle += 1
        self._freed.set()
        if computed.cancelled():
            return
        error = computed.exception()
        if error is not None:
            for item in batch:
                if not item.answer.done():
                    item.answer.set_exception(error)
            return
        answers, seconds = computed.result()
        for item, logits in zip(batch, answers, strict=True):
            if not item.answer.done():
                item.answer.set_result(logits)
        self._note_batch(batch, seconds)

    def _note_batch(self, batch: list[Waiting], seconds: float) -> None:
        tokens = sum(len(item.token_ids) for item in batch)
        rate, before = tokens / max(seconds, 1e-9), self._tokens_per_second
        mixed = rate if before is None else before + NEWEST_SHARE * (rate - before)
        self._tokens_per_second = mixed
        self._metrics.batch_texts.observe(len(batch))
        self._metrics.batch_tokens.observe(tokens)
        self._metrics.batch_seconds.observe(seconds)

    def _count_tokens(self, more: int) -> None:
        self._waiting_tokens += more
        self._metrics.queue_tokens.set(self._waiting_tokens)
