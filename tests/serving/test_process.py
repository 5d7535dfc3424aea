"""The service as a process: bodies that come slowly, signals, and what cannot be served."""

import asyncio
import collections
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny_service import TinyAdapters, build_service, listening

from peft_sentiment.cli import main
from peft_sentiment.commands.serve import read_adapters
from peft_sentiment.config import ServiceSettings
from peft_sentiment.errors import SettingsError
from peft_sentiment.inference.loading import load_classifier
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.serving import server


@pytest.fixture(scope="module")
def port(tiny_adapters: TinyAdapters) -> Iterator[int]:
    """Where a service listens that waits half a second for a header or a body."""
    adapters = {"plain": tiny_adapters.folders["plain"]}
    service = build_service(adapters, port=0, header_seconds=0.5, body_seconds=0.5)
    with listening(service) as address:
        yield int(address.rpartition(":")[2])


def exchange(port: int, *parts: bytes) -> tuple[int, dict[str, str]]:
    """Send parts of a request, and return status and error of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.headers["content-type"] == "application/json"
        return answer.status, json.loads(answer.read())["error"]


HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


def test_a_slow_body_is_given_up(port: int) -> None:
    status, error = exchange(port, HEAD + b"Content-Length: 20\r\n\r\n", b'{"te')
    assert (status, error["code"]) == (408, "body_too_slow")


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_a_slow_header_is_given_up(port: int, before: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        if before:
            connection.sendall(before)
            first = http.client.HTTPResponse(connection)
            first.begin()
            assert (first.status, bool(first.read())) == (200, True)
        for line in HEAD.splitlines(keepends=True):
            connection.sendall(line)
            time.sleep(0.05)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        error = json.loads(answer.read())["error"]
        assert (answer.status, error["code"]) == (408, "header_too_slow")
        assert connection.recv(1) == b"", "the connection is still open"


def test_a_slow_header_that_begins_during_another_request_is_given_up(port: int) -> None:
    body = b'{"texts": ["a film"]}'
    whole = HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(whole + b"GET /he")
        first = http.client.HTTPResponse(connection)
        first.begin()
        assert (first.status, bool(first.read())) == (200, True)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert json.loads(answer.read())["error"]["code"] == "header_too_slow"


def test_a_connection_on_which_nothing_is_asked_is_closed(
    tiny_adapters: TinyAdapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 1)
    service = build_service({"plain": tiny_adapters.folders["plain"]}, port=0)
    with listening(service) as address:
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            assert connection.recv(1) == b""


def test_a_request_that_takes_long_is_not_taken_for_a_slow_header(
    tiny_adapters: TinyAdapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = {"plain": tiny_adapters.folders["plain"]}
    service = build_service(adapters, port=0, header_seconds=0.1)
    label = service._label

    async def take_long(*given: Any) -> Any:  # noqa: ANN401 - passed on as they come
        await asyncio.sleep(0.4)
        return await label(*given)

    monkeypatch.setattr(service, "_label", take_long)
    body, kind = json.dumps({"texts": "good"}), {"Content-Type": "application/json"}
    with listening(service) as address:
        port = int(address.rpartition(":")[2])
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            for _ in range(2):
                connection.request("POST", "/v1/predict", body, kind)
                answer = connection.getresponse()
                assert (answer.status, bool(answer.read())) == (200, True)
                time.sleep(0.2)


def test_a_body_that_claims_too_much_is_refused_before_it_is_sent(port: int) -> None:
    claim = HEAD + b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
    status, error = exchange(port, claim)
    assert (status, error["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "request_", [b"\x16\x03\x01\x02\x00\x01\x00", b"GARBAGE\r\n\r\n", HEAD + b"Bad Header\r\n\r\n"]
)
def test_what_is_no_http_is_told_in_the_same_form(port: int, request_: bytes) -> None:
    status, error = exchange(port, request_ + b"\r\n\r\n")
    assert (status, error["code"]) == (400, "malformed_http")
    assert error.keys() == {"code", "message", "request_id"}


def test_a_malformed_chunk_is_told_in_the_same_form(port: int) -> None:
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    status, _ = exchange(port, chunked, b"nonsense\r\n\r\n")
    assert 400 <= status < 500


def test_what_is_stuck_is_told_that_the_service_stops(
    tiny_adapters: TinyAdapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = {"plain": tiny_adapters.folders["plain"]}
    service = build_service(adapters, port=0, drain_seconds=0.3)
    body = b'{"texts": "good"}'
    request = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    answers: list[tuple[int, dict[str, str]]] = []

    async def never(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(service, "_label", never)
    with listening(service) as address:
        port = int(address.rpartition(":")[2])
        asker = threading.Thread(target=lambda: answers.append(exchange(port, request)))
        asker.start()
        while not service.under_way:
            time.sleep(0.01)
    asker.join(timeout=20)
    [(status, error)] = answers
    assert (status, error["code"]) == (503, "draining")


def test_stopping_bounds_what_is_under_way_and_passes_over_what_is_late(
    tiny_adapters: TinyAdapters,
) -> None:
    service = build_service({"plain": tiny_adapters.folders["plain"]}, drain_seconds=1)

    async def run() -> float:
        await service.start()
        loop = asyncio.get_running_loop()
        async with service.limit_time() as under_way:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0) as late:
                    service._limits.add(late)
                    try:
                        await asyncio.sleep(20)
                    finally:
                        service._bound_limits()
        await service.stop()
        return (under_way.when() or 0) - loop.time()

    assert asyncio.run(run()) <= 1


@dataclass
class ServiceProcess:
    """A running `peft-sentiment serve`.

    Attributes:
        log: file of what it writes.
        port: where it listens on loopback.
    """

    process: "subprocess.Popen[bytes]"
    log: Path
    port: int

    def read_events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def service_process(tiny_adapters: TinyAdapters, tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service of plain and stars, which computes one text at a time."""
    command = [sys.executable, "-m", "peft_sentiment.cli", "serve", "--port", "0", "--no-bf16",
               "--batch-tokens", "1"]  # fmt: skip
    command += [f"{name}={tiny_adapters.folders[name]}" for name in ("plain", "stars")]
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, env={**os.environ})
    try:
        while not (lines := [x for x in log.read_text().splitlines() if '"listening"' in x]):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        event = json.loads(lines[0])
        assert event["host"] == "127.0.0.1"
        yield ServiceProcess(process, log, event["port"])
    finally:
        process.kill()
        process.wait()


class Asker(threading.Thread):
    """A client that asks for reviews in turn until nobody answers.

    Attributes:
        statuses: how often each came back.
        answers: review, adapter and the probabilities that came back.
        cut_off: answers that ended in their midst.
    """

    def __init__(self, port: int, texts: list[str], start: int) -> None:
        super().__init__()
        self.port, self.texts, self.place = port, texts, start
        self.statuses: collections.Counter[int] = collections.Counter()
        self.answers: list[tuple[int, str, dict[str, float]]] = []
        self.cut_off = 0

    def run(self) -> None:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            place, adapter = self.place % len(self.texts), ("plain", "stars")[self.place % 2]
            self.place += 1
            try:
                body = json.dumps({"texts": self.texts[place], "adapter": adapter})
                headers = {"Content-Type": "application/json"}
                connection.request("POST", "/v1/predict", body, headers)
                answer = connection.getresponse()
                content = answer.read()
            except http.client.IncompleteRead:
                self.cut_off += 1
                return
            except (OSError, http.client.HTTPException):
                return  # it was not accepted any more
            finally:
                connection.close()
            self.statuses[answer.status] += 1
            if answer.status == 200:
                said = json.loads(content)["predictions"][0]["probabilities"]
                self.answers.append((place, adapter, said))


def test_sigterm_under_load_answers_what_was_accepted(
    service_process: ServiceProcess, tiny_adapters: TinyAdapters, tiny_reviews: Reviews
) -> None:
    texts = list(tiny_reviews.texts[:60])
    askers = [Asker(service_process.port, texts, start) for start in range(12)]
    for asker in askers:
        asker.start()
    while sum(len(asker.answers) for asker in askers) < 100:
        assert service_process.process.poll() is None
        time.sleep(0.02)
    service_process.process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    assert service_process.process.wait(timeout=20) == 0
    assert time.monotonic() - started < 10
    for asker in askers:
        asker.join(timeout=30)
        assert not asker.is_alive()
    events = service_process.read_events()
    accepted = collections.Counter(e["status"] for e in events if e["event"] == "request")
    answered = sum((asker.statuses for asker in askers), collections.Counter())
    assert accepted == answered
    assert set(answered) <= {200, 503}
    assert sum(asker.cut_off for asker in askers) == 0
    assert events[-1]["event"] == "stopped"
    require_right_answers(askers, texts, tiny_adapters)


def require_right_answers(askers: list[Asker], texts: list[str], adapters: TinyAdapters) -> None:
    """Check every answer against offline scoring."""
    settings = {"training": {"bf16": False}}
    for name in ("plain", "stars"):
        offline = load_classifier(adapters.root / name, settings).predict_reviews(texts)
        for asker in askers:
            for place, adapter, said in asker.answers:
                if adapter == name:
                    expected = offline.probabilities[place].tolist()
                    assert list(said.values()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "nowhere"], "no such adapter folder"),
        (["serve", "a=x", "a=y"], "there is an adapter a already"),
        (["serve", "--queue-tokens", "0"], "service.queue_tokens is 0"),
        (["serve", "--port", "70000"], "service.port is 70000"),
        (["serve", "--api-keys-file", "nowhere"], "can't be read"),
        (["serve", "--cors-origins", "example.org"], "https://example.org"),
        (["serve", "--adapters-folder", "nowhere"], "no such folder"),
        (["serve", "--prot", "1"], "--port"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "nowhere", "--port", str(port)]) == 2
    assert f"--port {port}: can't listen on 127.0.0.1" in capsys.readouterr().err
    assert main(["serve", "--host", "nowhere.invalid"]) == 2
    assert "--host of this machine" in capsys.readouterr().err


def test_a_folder_with_an_equals_sign_in_its_path_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a=b" / "mine"
    folder.mkdir(parents=True)
    assert read_adapters([str(folder), f"other={folder}"]) == {
        "mine": str(folder), "other": str(folder),
    }  # fmt: skip


def test_a_name_that_no_request_could_choose_is_refused(tiny_adapters: TinyAdapters) -> None:
    with pytest.raises(SettingsError, match="letters, digits"):
        build_service({"a b": tiny_adapters.folders["plain"]})


@pytest.mark.parametrize("library", ["fastapi", "uvicorn", "prometheus_client"])
def test_without_the_extra_its_name_is_told(
    library: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("peft_sentiment.serving.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["serve"]) == 2
    assert "pip install 'peft-sentiment[serve]'" in capsys.readouterr().err


def test_defaults_are_for_this_machine_alone() -> None:
    settings = ServiceSettings()
    assert settings.host == "127.0.0.1"
    assert settings.cors_origins == ()
    assert settings.adapters_folder is None
    assert settings.drain_seconds + 1 < 10
