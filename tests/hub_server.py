"""A small Hugging Face Hub on loopback, for the real client: repositories, commits, large files, tokens and faults."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

WRITER, READER, STRANGER = "hf_writer", "hf_reader", "hf_stranger"
TOKENS = {WRITER: ("ada", True), READER: ("ada", False), STRANGER: ("eve", True)}


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Fault:
    """What goes wrong with requests of a method whose path holds a text, `times` times.

    A number is a status; "cut" ends the connection after `after` bytes of the body, "hang" sends no more after them;
    "alter" changes a byte.
    """

    method: str
    path: str
    what: int | str
    times: int = 1
    after: int = 0


@dataclass
class Repo:
    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # files by revision, oldest first

    @property
    def head(self) -> str:
        return next(reversed(self.commits))


class Hub:
    """The state, and the address."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.url = ""
        self.lock = threading.Lock()

    def commit(self, repo: str, changes: dict[str, bytes], private: bool = False) -> str:
        """Add or change files; gives the revision."""
        made = self.repos.setdefault(repo, Repo(private))
        files = {**(made.commits[made.head] if made.commits else {}), **changes}
        text = json.dumps([len(made.commits), {name: git_oid(data) for name, data in sorted(files.items())}])
        oid = hashlib.sha1(text.encode()).hexdigest()
        made.commits[oid] = files
        return oid

    def files(self, repo: str) -> dict[str, bytes]:
        """What a repository holds now."""
        return self.repos[repo].commits[self.repos[repo].head]

    def fault(self, method: str, path: str) -> Fault | None:
        """The fault that befalls a request now."""
        with self.lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if fault.times and fault.method == method and fault.path in path:
                    fault.times -= 1
                    return fault
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer("GET")

    do_HEAD = lambda self: self.answer("HEAD")  # noqa: E731, N815  # the names that http.server calls
    do_POST = lambda self: self.answer("POST")  # noqa: E731, N815  # the same
    do_PUT = lambda self: self.answer("PUT")  # noqa: E731, N815  # the same

    def answer(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        fault = self.hub.fault(method, path)
        length = int(self.headers.get("Content-Length") or 0)
        if fault and fault.what == "cut" and method in ("PUT", "POST"):
            self.rfile.read(min(fault.after, length))
            self.close_connection = True
            self.connection.close()
            return
        body = self.rfile.read(length)
        if fault and isinstance(fault.what, int):
            self.send(fault.what, {"error": "a fault of the test"})
            return
        user, writes = None, False
        if token := (self.headers.get("Authorization") or "").removeprefix("Bearer "):
            if token not in TOKENS:
                self.send(401, {"error": "bad"}, {"X-Error-Message": "Invalid credentials in Authorization header"})
                return
            user, writes = TOKENS[token]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # clients of faults hang up
            self.route(method, path, body, user, writes, fault)

    def route(self, method: str, path: str, body: bytes, user: str | None, writes: bool, fault: Fault | None) -> None:
        if method == "PUT":
            return self.put(path.removeprefix("/large/"), body)
        if path == "/api/validate-yaml":
            return self.send(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.create(json.loads(body), user, writes)
        match = (
            re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|preupload|commit|tree)/([^/]+))?", path)
            or re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/(objects)/(batch)", path)
            or re.fullmatch(r"/([^/]+/[^/]+)/(resolve)/([^/]+)/.+", path)
        )
        if not match:
            return self.send(404, {"error": f"no route {path}"})
        name, action, revision = match.groups()
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and user != name.partition("/")[0]):
            return self.send(404 if user else 401, {"error": "none"}, {"X-Error-Code": "RepoNotFound"})
        if action in ("preupload", "commit", "objects"):
            if not writes or user != name.partition("/")[0]:
                return self.send(403, {"error": "no right"}, {"X-Error-Message": "this token has no write role"})
            return {"preupload": self.preupload, "commit": self.add, "objects": self.batch}[action](name, body)
        commit = repo.head if revision in (None, "main") else revision
        if commit not in repo.commits:
            return self.send(404, {"error": "none"}, {"X-Error-Code": "RevisionNotFound"})
        if action == "resolve":
            return self.resolve(method, repo, commit, path.partition(f"/resolve/{revision}/")[2], fault)
        siblings = [{"rfilename": file} for file in repo.commits[commit]]
        return self.send(200, {"id": name, "sha": commit, "private": repo.private, "siblings": siblings})

    def create(self, wanted: dict, user: str | None, writes: bool) -> None:
        if not user:
            return self.send(401, {"error": "who are you?"})
        owner = wanted.get("organization") or user
        if not writes or owner != user:
            return self.send(403, {"error": "no right"})
        name, private = f"{owner}/{wanted['name']}", wanted.get("private") or wanted.get("visibility") == "private"
        url = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.repos:
            return self.send(409, {"error": "You already created this model repo", **url})
        self.hub.commit(name, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=bool(private))
        return self.send(200, url)

    def preupload(self, name: str, body: bytes) -> None:
        have = self.hub.files(name)
        answers = []
        for file in json.loads(body)["files"]:
            large, data = file["path"].endswith(".safetensors"), have.get(file["path"])
            oid = None if data is None else hashlib.sha256(data).hexdigest() if large else git_oid(data)
            mode = "lfs" if large else "regular"
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.send(200, {"files": answers})

    def batch(self, _name: str, body: bytes) -> None:
        answers = []
        for item in json.loads(body)["objects"]:
            if item["oid"] not in self.hub.large:
                item["actions"] = {"upload": {"href": f"{self.hub.url}/large/{item['oid']}"}}
            answers.append(item)
        self.send(200, {"transfer": "basic", "objects": answers})

    def put(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self.send(400, {"error": "another checksum"})
        self.hub.large[oid] = body
        return self.send(200, {})

    def add(self, name: str, body: bytes) -> None:
        changes = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.large:
                    return self.send(400, {"error": "the large file was never sent"})
                changes[value["path"]] = self.hub.large[value["oid"]]
        oid = self.hub.commit(name, changes)
        return self.send(200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})

    def resolve(self, method: str, repo: Repo, commit: str, file: str, fault: Fault | None) -> None:
        headers = {"X-Repo-Commit": commit}
        data = repo.commits[commit].get(file)
        if data is None:
            return self.send(404, {"error": "none"}, {**headers, "X-Error-Code": "EntryNotFound"})
        large = file.endswith(".safetensors")
        headers["ETag"] = f'"{hashlib.sha256(data).hexdigest() if large else git_oid(data)}"'
        start, status = 0, 200
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start, status = int(asked[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        part = data[start:]
        if fault and fault.what == "alter":
            part = part[:-1] + bytes([part[-1] ^ 1])
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(part)), "Accept-Ranges": "bytes"}.items():
            self.send_header(key, value)
        self.end_headers()
        if method == "HEAD":
            return None
        if fault and fault.what == "hang":
            self.wfile.write(part[: fault.after])
            self.rfile.read(1)  # until the other side is gone
            self.close_connection = True
            return None
        if fault and fault.what == "cut":
            self.wfile.write(part[: fault.after])
            self.close_connection = True
            self.connection.close()
            return None
        self.wfile.write(part)
        return None

    def send(self, status: int, content: dict, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """A Hub on a free port of this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
