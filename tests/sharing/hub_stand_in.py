"""A stand-in of the Hugging Face hub's HTTP API: repositories in memory, behind a real socket.

It answers what `huggingface_hub` asks when it creates a repository, commits to one and downloads a snapshot, with files
sent as part of a commit or, where they are weights, by Git LFS. `faults` make it fail where a path begins so.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

WRITER, READER = "hf_writer", "hf_reader"


class Hub(ThreadingHTTPServer):
    """The server and all that it holds."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.forget()

    def forget(self) -> None:
        """All repositories, faults and requests."""
        self.commits: dict[str, dict[str, bytes]] = {}  # by their digest
        self.branches: dict[str, dict[str, str]] = {}  # repository -> branch -> commit
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.objects: dict[str, bytes] = {}  # of Git LFS
        self.faults: dict[str, int | str] = {}  # METHOD and path as they begin -> status, or `cut`
        self.requests: list[str] = []

    def put(self, repository: str, files: dict[str, bytes], branch: str = "main") -> None:
        """One more commit of a repository, whose only files these are."""
        digest = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[digest] = files
        self.branches.setdefault(repository, {})[branch] = digest

    def files(self, repository: str, branch: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches[repository][branch]]


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub for the length of a block."""
    hub = Hub()
    thread = Thread(target=hub.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class _Request(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{self.command} /{path}")
        for begins, fault in self.server.faults.items():
            if f"{self.command} /{path}".startswith(begins):
                if fault == "cut":
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.close_connection = True
                else:
                    self._answer(int(fault), {"error": "as ordered"})
                return
        parts = path.split("/")
        if path == "api/repos/create":
            self._create(json.loads(self.content))
        elif path == "api/validate-yaml":
            bad = b"license: nonsense" in self.content
            self._answer(400 if bad else 200, {"errors": [{"message": "license is nonsense"}] * bad, "warnings": []})
        elif parts[0] == "lfs":
            self.server.objects[parts[1]] = self.content
            self._answer(200, {})
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._batch(json.loads(self.content))
        elif parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4:])
        elif len(parts) > 4 and parts[2] == "resolve":
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._answer(404, {"error": path})

    do_HEAD = do_POST = do_PUT = do_GET

    def _create(self, asked: dict) -> None:
        name = f"{asked.get('organization')}/{asked['name']}"
        if not self._may_write():
            return
        if name in self.server.branches:
            self._answer(409, {"error": "You already created this model repo", "url": f"{self.server.url}/{name}"})
            return
        self.server.put(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
        if asked.get("private") or asked.get("visibility") == "private":
            self.server.private.add(name)
        self._answer(200, {"url": f"{self.server.url}/{name}", "id": name})

    def _batch(self, asked: dict) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}} for one in asked["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _api(self, repository: str, rest: list[str]) -> None:
        if not self._may_read(repository):
            return
        branches = self.server.branches[repository]
        action, revision = (rest[0], "/".join(rest[1:])) if len(rest) > 1 else ("revision", "main")
        if action == "branch":
            branches.setdefault(revision, branches["main"])
            self._answer(200, {})
            return
        if action in ("preupload", "commit") and not self._may_write():
            return
        commit = branches.get(revision, revision)
        if commit not in self.server.commits:
            self._answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            return
        files = self.server.commits[commit]
        if action == "revision":
            siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
            known = {"sha": commit, "siblings": siblings, "private": repository in self.server.private}
            self._answer(200, {"id": repository, "modelId": repository, **known})
        elif action == "tree":
            self._answer(200, [self._entry(name, content) for name, content in files.items()])
        elif action == "preupload":
            asked = [one["path"] for one in json.loads(self.content)["files"]]
            modes = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in asked}
            found = [{"path": name, "uploadMode": modes[name], "shouldIgnore": False} for name in asked]
            self._answer(200, {"files": found})
        elif action == "commit":
            self._commit(repository, revision, dict(files))

    def _commit(self, repository: str, branch: str, files: dict[str, bytes]) -> None:
        for line in self.content.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        self.server.put(repository, files, branch)
        digest = self.server.branches[repository][branch]
        url = f"{self.server.url}/{repository}/commit/{digest}"
        self._answer(200, {"commitUrl": url, "commitOid": digest})

    def _resolve(self, repository: str, revision: str, name: str) -> None:
        if not self._may_read(repository):
            return
        commit = self.server.branches[repository].get(revision, revision)
        content = self.server.commits[commit].get(name)
        if content is None:
            self._answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        etag = self._entry(name, content)["oid"]
        self._answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit})

    def _entry(self, name: str, content: bytes) -> dict:
        digest = hashlib.sha256(content).hexdigest()
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        lfs = {"lfs": {"oid": digest, "size": len(content), "pointerSize": 134}}
        is_lfs = name.endswith(".safetensors")
        entry = {"type": "file", "path": name, "size": len(content), "oid": digest if is_lfs else oid}
        return {**entry, **(lfs if is_lfs else {})}

    @property
    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _may_write(self) -> bool:
        if self._token == READER:
            self._answer(403, {"error": "You don't have the rights"})
        elif self._token != WRITER:
            self._answer(401, {"error": "Invalid credentials in Authorization header"})
        return self._token == WRITER

    def _may_read(self, repository: str) -> bool:
        if self._token and self._token not in (READER, WRITER):
            self._answer(401, {"error": "Invalid credentials in Authorization header"})
        elif repository not in self.server.branches or (repository in self.server.private and not self._token):
            status = 404 if self._token else 401
            self._answer(status, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif repository in self.server.gated and self._token != WRITER:
            self._answer(403, {"error": "Access is restricted"}, {"X-Error-Code": "GatedRepo"})
        else:
            return True
        return False

    def _answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
