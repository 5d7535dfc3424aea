"""Work beside the batches, one piece after the other, in a thread that no exit waits for."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from peft_sentiment.serving.refusals import refuse_for_now

Result = TypeVar("Result")

Piece = tuple[Callable[[], Any], asyncio.Future[Any]]


class SideThread:
    """A thread with a bounded queue.

    The threads of `concurrent.futures` keep a program from ending while they work, and an
    explanation can take longer than a service may take to stop.
    """

    def __init__(self, name: str, most: int) -> None:
        """Start the thread.

        Args:
            name: of what it does, for refusals.
            most: pieces that may wait.
        """
        self._name, self._most = name, most
        self._pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def do(self, work: Callable[[], Result], retry_after: int = 1) -> Result:
        """Return what the work returns.

        Args:
            work: called in the thread, unless nobody waits for it any more.
            retry_after: seconds to tell those who are refused.

        Raises:
            Refusal: as many pieces wait as may.
        """
        if self._pieces.qsize() >= self._most:
            message = f"{self._most} requests wait for {self._name}, as many as may. Try later."
            raise refuse_for_now("queue_full", message, retry_after)
        answer: asyncio.Future[Result] = self._loop.create_future()
        self._pieces.put((work, answer))
        return await answer

    def _work(self) -> None:
        while True:
            work, answer = self._pieces.get()
            if answer.done():
                continue
            try:
                self._tell(answer.set_result, answer, work())
            except BaseException as error:  # the waiting request raises it
                self._tell(answer.set_exception, answer, error)

    def _tell(
        self, settle: Callable[[Any], None], answer: asyncio.Future[Any], value: object
    ) -> None:
        """Settle a future in its own loop; one that has ended by now waits for nothing."""

        def settle_if_awaited() -> None:
            if not answer.done():
                settle(value)

        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(settle_if_awaited)
