"""The part of a hub's protocol that takes a commit, on loopback; small files only, no Git LFS."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


@dataclass
class ReceivedCommit:
    """What a hub has been sent.

    Attributes:
        repositories: what each request to make a repository said.
        files: name in the repository -> contents.
        tokens: every token that was shown.
        refuses: whether the hub answers commits with 403.
    """

    endpoint: str = ""
    repositories: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    refuses: bool = False


@contextmanager
def receiving_hub() -> Iterator[ReceivedCommit]:
    """Run a hub that keeps what it is sent."""
    received = ReceivedCommit()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            received.tokens.add(str(self.headers.get("Authorization")))
            status, answer = respond(received, self.path, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    received.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def respond(received: ReceivedCommit, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Answer one request."""
    if path == "/api/repos/create":
        asked = json.loads(body)
        received.repositories.append(asked)
        return 200, {"url": f"{received.endpoint}/owner/{asked['name']}"}
    if path == "/api/validate-yaml":
        return 200, {"errors": [], "warnings": []}
    if path.startswith("/api/models/owner/mine/preupload/"):
        files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                 for file in json.loads(body)["files"]]  # fmt: skip
        return 200, {"files": files}
    if path.startswith("/api/models/owner/mine/commit/") and not received.refuses:
        for line in body.decode().splitlines():
            row = json.loads(line)
            if row["key"] == "file":
                received.files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
        url = f"{received.endpoint}/owner/mine/commit/{'0' * 40}"
        return 200, {"commitOid": "0" * 40, "commitUrl": url, "success": True}
    return 403, {"error": "You may not write here"}
