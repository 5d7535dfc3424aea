"""A service as a process: loaded, listening, and stopped without losing what it accepted."""

import contextlib
import logging
import math
import os
import socket
from collections.abc import Mapping
from types import FrameType
from typing import Any

import uvicorn

from peft_sentiment.config import ServiceSettings
from peft_sentiment.errors import SettingsError
from peft_sentiment.serving.adapters import AdapterRegistry, Overrides
from peft_sentiment.serving.api import build_app
from peft_sentiment.serving.keys import KEYS_VARIABLE, load_api_keys
from peft_sentiment.serving.logs import log, logs_as_json
from peft_sentiment.serving.protocol import build_protocol
from peft_sentiment.serving.service import Service, load_adapters

LOOPBACK = ("127.0.0.1", "::1", "localhost")

IDLE_SECONDS = 30
"""A connection on which nothing is asked is closed after so long."""


class Server(uvicorn.Server):
    """A server that tells the service when it is to stop."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def startup(self, sockets: Any = None) -> None:  # noqa: ANN401 - uvicorn's own
        """Listen, and tell where."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            names = [adapter.name for adapter in self._service.registry.list_adapters()]
            log("listening", host=host, port=port, adapters=names)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal to stop."""
        if self.started:
            self._service.begin_draining()
        super().handle_exit(sig, frame)


def serve(adapters: Mapping[str, str], settings: ServiceSettings, overrides: Overrides) -> None:
    """Load adapters and serve them until SIGTERM or Ctrl-C.

    Args:
        adapters: name -> folder; the first one is the default.
        settings: of the service.
        overrides: settings of model and scoring that were given by hand.

    Raises:
        AdapterError: an adapter can't be loaded.
        SettingsError: the keys can't be read, or the port can't be listened on.
    """
    keys = load_api_keys(settings.api_keys_file, os.environ)
    with open_socket(settings.host, settings.port) as listener:
        registry = AdapterRegistry(overrides, settings.adapters_folder, settings.max_adapters)
        load_adapters(registry, adapters)
        _run(Service(settings, registry, keys), listener)


def _run(service: Service, listener: socket.socket) -> None:
    settings = service.settings
    with logs_as_json():
        if settings.host not in LOOPBACK and not len(service.keys):
            words = f"others can reach this service, and no key is asked for: set {KEYS_VARIABLE}"
            log(words, logging.WARNING)
        # uvicorn raises the signal again when it has ended; that it came is no error here.
        with contextlib.suppress(KeyboardInterrupt):
            Server(build_config(service), service).run([listener])
        log("stopped")


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket of one's own at an address, before time is spent on loading adapters.

    Raises:
        SettingsError: the port is taken, or the host is not of this machine.
    """
    with contextlib.ExitStack() as unless_bound:
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            listener = unless_bound.enter_context(socket.socket(family))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"--port {port}: can't listen on {host} ({error}). Choose another port, or a "
                "--host of this machine."
            ) from error
        unless_bound.pop_all()
    return listener


def build_config(service: Service) -> uvicorn.Config:
    """Return how uvicorn is to run a service."""
    settings = service.settings
    return uvicorn.Config(
        build_app(service),
        host=settings.host,
        port=settings.port,
        http=build_protocol(settings.header_seconds),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds) + 1,
    )
