"""A small Hugging Face Hub on 127.0.0.1, in the hub's own protocol.

Its repositories are folders: FOLDER/models/NAME and FOLDER/datasets/NAME, such as
FOLDER/models/distilbert/distilbert-base-uncased. Each has one revision, `main`, whose commit is a
hash of its files, so a changed file is a new commit. Clients find it by HF_ENDPOINT.

`LoopbackHub` is the server; `respond` is all it says, as a function of the request.
"""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit

LEGACY_NAMES = {
    "distilbert-base-uncased": "distilbert/distilbert-base-uncased",
    "imdb": "stanfordnlp/imdb",
}
"""Names from the time before owners, which the hub answers with a redirect."""

LARGE_FILE_ENDINGS = (".safetensors", ".bin", ".parquet")
"""Files that the hub keeps in Git LFS: their ETag is the SHA-256 of what they hold."""

API_PATH = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+(?:/[^/]+)??)"
    r"(?:/(?P<action>revision|tree|paths-info)/(?P<revision>[^/]+)(?:/(?P<path>.+))?)?"
)
FILE_PATH = re.compile(
    r"/(?:(?P<kind>datasets)/)?(?P<name>[^/]+(?:/[^/]+)?)"
    r"/(?P<action>resolve)/(?P<revision>[^/]+)/(?P<path>.+)"
)


class Request(NamedTuple):
    """What a client asked for; the path has no query and no escapes."""

    method: str
    path: str


@dataclass(frozen=True)
class Response:
    """What it gets. The body of a HEAD response is not sent, but counted."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class NotOnHubError(Exception):
    """What was asked for is missing; told with the hub's own code for it."""

    def __init__(self, code: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code)
        message = f"{code.removesuffix('NotFound')} not found"
        codes = {"X-Error-Code": code, "X-Error-Message": message}
        body = json.dumps({"error": message}).encode()
        self.response = Response(404, {**codes, **(headers or {})}, body)


@dataclass(frozen=True)
class StoredFile:
    """One file of a repository, described as Git and Git LFS describe it."""

    path: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def is_large(self) -> bool:
        return self.path.endswith(LARGE_FILE_ENDINGS)

    @property
    def git_content(self) -> bytes:
        """What Git itself holds: for a large file only a pointer."""
        if not self.is_large:
            return self.content
        pointer = "version https://git-lfs.github.com/spec/v1\n"
        return f"{pointer}oid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()

    @property
    def git_oid(self) -> str:
        return _compute_git_oid("blob", self.git_content)

    def describe(self) -> dict[str, Any]:
        """Return its entry of a tree listing."""
        entry = {"type": "file", "oid": self.git_oid, "size": len(self.content), "path": self.path}
        if self.is_large:
            size = {"size": len(self.content), "pointerSize": len(self.git_content)}
            entry["lfs"] = {"oid": self.sha256, **size}
        return entry


@dataclass(frozen=True)
class Repository:
    """A folder as a repository with one commit."""

    folder: Path

    @cached_property
    def files(self) -> dict[str, StoredFile]:
        """Path within the repository -> file."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        names = [path.relative_to(self.folder).as_posix() for path in paths]
        return {n: StoredFile(n, p.read_bytes()) for n, p in zip(names, paths, strict=True)}

    @cached_property
    def commit(self) -> str:
        listing = "".join(f"{file.git_oid} {file.path}\n" for file in self.files.values())
        return _compute_git_oid("commit", listing.encode())

    def get_file(self, path: str) -> StoredFile:
        if path not in self.files:
            raise NotOnHubError("EntryNotFound", {"X-Repo-Commit": self.commit})
        return self.files[path]

    def list_entries(self, below: str, recursive: bool) -> list[dict[str, Any]]:
        """List the files and folders below a folder; "" is the whole repository."""
        start = f"{below}/" if below else ""
        inside = [path for path in [*self.files, *self._folders] if path.startswith(start)]
        if not inside and below:
            raise NotOnHubError("EntryNotFound", {"X-Repo-Commit": self.commit})
        return [
            self._describe(path)
            for path in sorted(inside)
            if recursive or "/" not in path.removeprefix(start)
        ]

    def list_paths(self, paths: list[str]) -> list[dict[str, Any]]:
        """List those of the paths that exist; the hub leaves the others out."""
        known = {*self.files, *self._folders}
        return [self._describe(path) for path in paths if path in known]

    @cached_property
    def _folders(self) -> set[str]:
        parents = {str(parent) for path in self.files for parent in Path(path).parents}
        return parents - {"."}

    def _describe(self, path: str) -> dict[str, Any]:
        if path in self.files:
            return self.files[path].describe()
        oid = _compute_git_oid("tree", f"{self.commit} {path}".encode())
        return {"type": "directory", "oid": oid, "size": 0, "path": path}


def _compute_git_oid(kind: str, content: bytes) -> str:
    header = f"{kind} {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def respond(folder: Path, method: str, target: str, headers: Message, body: bytes) -> Response:
    """Answer one request about the repositories in a folder."""
    url = urlsplit(target)
    asked = API_PATH.fullmatch(url.path) or FILE_PATH.fullmatch(url.path)
    if asked is None:
        return Response(404)
    parts = {key: unquote(value or "") for key, value in asked.groupdict().items()}
    if parts["name"] in LEGACY_NAMES:
        new_name = LEGACY_NAMES[parts["name"]]
        return Response(307, {"Location": target.replace(parts["name"], new_name, 1)})
    try:
        repository = open_repository(folder, parts["kind"] or "models", parts["name"])
        check_revision(repository, parts["revision"])
        query = parse_qs(body.decode() if method == "POST" else url.query)
        return _ANSWERS[parts["action"]](repository, parts, query, headers)
    except NotOnHubError as error:
        return error.response


def open_repository(folder: Path, kind: str, name: str) -> Repository:
    place = folder / kind / name
    if not any(path.is_file() for path in place.glob("*")):
        raise NotOnHubError("RepoNotFound")
    return Repository(place)


def check_revision(repository: Repository, revision: str) -> None:
    if revision not in ("", "main", repository.commit):
        raise NotOnHubError("RevisionNotFound")


def answer_info(
    repository: Repository, parts: dict[str, str], query: dict[str, list[str]], _headers: Message
) -> Response:
    """Answer with the repository's commit and files, with their sizes where `blobs` asks."""
    with_sizes = _is_on(query, "blobs")
    info = {
        "id": parts["name"],
        "sha": repository.commit,
        "private": False,
        "gated": False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "lastModified": "2024-01-01T00:00:00.000Z",
        "siblings": [_describe_sibling(file, with_sizes) for file in repository.files.values()],
    }
    return _render(info, repository)


def _describe_sibling(file: StoredFile, with_size: bool) -> dict[str, Any]:
    entry = file.describe()
    if not with_size:
        return {"rfilename": file.path}
    lfs = {}
    if file.is_large:
        lfs = {"lfs": {**entry["lfs"], "sha256": file.sha256}}
    return {"rfilename": file.path, "size": entry["size"], "blobId": entry["oid"], **lfs}


def answer_tree(
    repository: Repository, parts: dict[str, str], query: dict[str, list[str]], _headers: Message
) -> Response:
    entries = repository.list_entries(parts["path"], _is_on(query, "recursive"))
    return _render(_expand(entries, query, repository), repository)


def answer_paths(
    repository: Repository, _parts: dict[str, str], query: dict[str, list[str]], _headers: Message
) -> Response:
    entries = repository.list_paths(query.get("paths", []))
    return _render(_expand(entries, query, repository), repository)


def answer_file(
    repository: Repository, parts: dict[str, str], _query: dict[str, list[str]], headers: Message
) -> Response:
    """Answer with a file, or with the range of it that was asked for."""
    file = repository.get_file(parts["path"])
    etag = file.sha256 if file.is_large else file.git_oid
    given = {
        "X-Repo-Commit": repository.commit,
        "ETag": f'"{etag}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    if file.is_large:
        given |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(file.content))}
    return _cut_range(Response(200, given, file.content), headers.get("Range", ""))


_ANSWERS = {
    "": answer_info,
    "revision": answer_info,
    "tree": answer_tree,
    "paths-info": answer_paths,
    "resolve": answer_file,
}


def _is_on(query: dict[str, list[str]], name: str) -> bool:
    return query.get(name, [""])[0].lower() in ("true", "1")


def _expand(
    entries: list[dict[str, Any]], query: dict[str, list[str]], repository: Repository
) -> list[dict[str, Any]]:
    """Add to each entry its last commit, where `expand` asks for it."""
    if not _is_on(query, "expand"):
        return entries
    date = "2024-01-01T00:00:00.000Z"
    last_commit = {"id": repository.commit, "title": "First commit", "date": date}
    return [{**entry, "lastCommit": last_commit} for entry in entries]


def _render(value: object, repository: Repository) -> Response:
    given = {"Content-Type": "application/json", "X-Repo-Commit": repository.commit}
    return Response(200, given, json.dumps(value).encode())


def _cut_range(whole: Response, asked: str) -> Response:
    """Cut a file to `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-COUNT`."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
    if not match or not any(match.groups()):
        return whole
    size = len(whole.body)
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        return Response(416, {"Content-Range": f"bytes */{size}"})
    given = {**whole.headers, "Content-Range": f"bytes {start}-{end}/{size}"}
    return Response(206, given, whole.body[start : end + 1])


class _Handler(BaseHTTPRequestHandler):
    """Carries requests to `respond`; HTTP/1.0, so that no connection outlives the server."""

    server: "_Server"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(Request(self.command, path))
        response = respond(self.server.folder, self.command, self.path, self.headers, body)
        self._send(response)

    do_GET = do_HEAD = do_POST = answer  # noqa: N815 - names that http.server calls

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def log_message(self, *_: object) -> None:
        """Stay silent; `LoopbackHub.requests` is the log."""


class _Server(ThreadingHTTPServer):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[Request] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class LoopbackHub:
    """The server, from its making until `stop` or the end of its `with` block.

    Attributes:
        endpoint: its address, for HF_ENDPOINT.
        requests: every request so far, in order of arrival.
    """

    def __init__(self, folder: Path) -> None:
        self._server = _Server(folder)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.requests = self._server.requests

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
