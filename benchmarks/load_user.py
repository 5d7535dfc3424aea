"""What Locust's users do for `load.py`: ask for one review each, and check the answer."""

import collections
import json
import os
import random
import time
from pathlib import Path

from locust import FastHttpUser, events, task

KNOWN = json.loads(Path(os.environ["LOAD_EXPECTED"]).read_text())
TOLERANCE = float(KNOWN["tolerance"])
"""Of a probability against offline scoring, whose batches are others and round otherwise."""

RATE = float(os.environ["LOAD_RATE_PER_USER"])

codes: collections.Counter[int] = collections.Counter()
seconds: list[float] = []
furthest = [0.0]
wrong: list[str] = []
ended: list[float] = []


class Reader(FastHttpUser):
    """Asks for a review by chance, again and again."""

    connection_timeout = network_timeout = 60.0

    def on_start(self) -> None:
        """Begin the user's own clock, and let the first request come at random as well."""
        self.due = time.monotonic()
        self.wait()

    def wait_time(self) -> float:
        """Return the seconds until the next request: requests come at random, as from strangers.

        Users who wait for equal times would stay in step from their common start on, and come in
        waves of all connections at once.
        """
        if not RATE:
            return 0.0
        self.due += random.expovariate(RATE)
        return max(0.0, self.due - time.monotonic())

    @task
    def predict(self) -> None:
        """Ask for one review, by one of the adapters."""
        adapter = random.choice([*KNOWN["answers"]])  # noqa: S311 - no secret
        place = random.randrange(len(KNOWN["texts"]))  # noqa: S311 - no secret
        start = time.perf_counter()
        body = {"texts": KNOWN["texts"][place], "adapter": adapter}
        with self.client.post("/v1/predict", json=body, catch_response=True) as answer:
            codes[answer.status_code] += 1
            if answer.status_code != 200:
                answer.failure(str(answer.status_code))
                return
            ended.append(time.perf_counter())
            seconds.append(ended[-1] - start)
            if not is_right(answer.json(), adapter, place):
                wrong.append(f"{adapter} {place}")
                answer.failure("wrong")


def is_right(answer: dict, adapter: str, place: int) -> bool:  # type: ignore[type-arg]
    """Tell whether an answer is what offline scoring says of this review."""
    expected, said = KNOWN["answers"][adapter][place], answer["predictions"][0]
    if answer["adapter"] != adapter or said["tokens"] != expected["tokens"]:
        return False
    wanted, got = expected["probabilities"], said["probabilities"]
    if wanted.keys() != got.keys():
        return False
    gap = max(abs(wanted[label] - got[label]) for label in wanted)
    furthest[0] = max(furthest[0], gap)
    top = sorted(wanted.values())
    is_close = top[-1] - top[-2] < 2 * TOLERANCE
    return gap <= TOLERANCE and (said["label"] == expected["label"] or is_close)


@events.quitting.add_listener
def write_answer(**_: object) -> None:
    """Write what was counted."""
    ordered = sorted(seconds)
    found = {
        "answered": len(seconds),
        "seconds": max(ended) - min(ended) if ended else 0.0,
        "codes": {str(code): count for code, count in codes.items() if code},
        "lost": codes[0],
        "errors": sum(count for code, count in codes.items() if code not in (0, 200, 503)),
        "wrong": len(wrong),
        "furthest": furthest[0],
        "median": ordered[len(ordered) // 2] if ordered else 0.0,
        "p99": ordered[int(0.99 * len(ordered))] if ordered else 0.0,
    }
    Path(os.environ["LOAD_ANSWER"]).write_text(json.dumps(found))
