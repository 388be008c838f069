"""A stand-in for the Hub: the part of its HTTP interface that `huggingface_hub` uses here.

Repositories live in memory. Binary files go the way of large files (git LFS), as there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_NeverToBeWrittenAnywhere"

_API = re.compile(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(\w+))?(?:/([^/?]+))?(/.*)?")
_RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_BATCH = re.compile(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch")


@dataclass
class Repo:
    """The files of each commit, oldest first."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        """Add a commit with these files and return its id."""
        text = repr((len(self.commits), sorted(files))).encode()
        oid = hashlib.sha1(text).hexdigest()
        self.commits[oid] = files
        return oid

    def find(self, revision: str) -> str | None:
        """Return the commit of a revision."""
        if revision == "main":
            return list(self.commits)[-1]
        found = self.tags.get(revision, revision)
        return found if found in self.commits else None


@dataclass
class Hub:
    """What it holds, what it was asked, and how it is to fail."""

    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    uploads_left: int | None = None
    cut: str | None = None
    forbidden: bool = False
    endpoint: str = ""

    def add(self, kind: str, name: str, files: dict[str, bytes], **settings: Any) -> Repo:
        """Make a repository with one commit."""
        repo = Repo(**settings)
        repo.commit(files)
        self.repos[kind, name] = repo
        return repo


def is_binary(data: bytes) -> bool:
    """Tell whether the Hub would take a file for one."""
    try:
        return b"\0" in data or not data.decode()
    except UnicodeDecodeError:
        return True


def git_oid(data: bytes) -> str:
    """Return the id that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sha256(data: bytes) -> str:
    """Return the id that git LFS gives a file."""
    return hashlib.sha256(data).hexdigest()


def oid_of(data: bytes) -> str:
    """Return the id of a file as the Hub keeps it."""
    return sha256(data) if is_binary(data) else git_oid(data)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(self._chunks())
        self.hub.asked.append((self.command, path))
        self.hub.bodies.append(body)
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path.startswith("/lfs/"):
            self._store(path.removeprefix("/lfs/"), body)
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif found := _BATCH.fullmatch(path):
            self._batch(json.loads(body))
        elif found := _RESOLVE.fullmatch(path):
            repo = self._repo("dataset" if found[1] else "model", found[2])
            if repo is not None:
                self._resolve(repo, found[3], found[4])
        elif found := _API.fullmatch(path):
            repo = self._repo(found[1], found[2])
            if repo is not None:
                self._api(repo, found[2], found[3] or "revision", found[4] or "main", body)
        else:
            self._json({"error": path}, 404)

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _send(self, data: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        length = headers.pop("Content_Length", str(len(data)))
        self.send_header("Content-Length", length)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _json(self, value: object, status: int = 200, **headers: str) -> None:
        data = json.dumps(value).encode()
        self._send(data, status, Content_Type="application/json", **headers)

    def _authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _may_write(self) -> bool:
        if self._authorized() and not self.hub.forbidden:
            return True
        # Some servers send back what they were sent.
        self._json({"error": f"{self.headers.get('Authorization')} may not write"}, 403)
        return False

    def _repo(self, kind: str, name: str) -> Repo | None:
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and not self._authorized()):
            self._json({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            return None
        return repo

    def _create(self, wanted: dict[str, Any]) -> None:
        if not self._may_write():
            return
        key = (wanted.get("type") or "model", f"{wanted['organization']}/{wanted['name']}")
        prefix = "datasets/" if key[0] == "dataset" else ""
        url = f"{self.hub.endpoint}/{prefix}{key[1]}"
        if key in self.hub.repos:
            self._json({"error": "You already created this repo", "url": url}, 409)
            return
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.hub.add(*key, {".gitattributes": b"*.bin filter=lfs\n"}, private=private)
        self._json({"url": url})

    def _batch(self, wanted: dict[str, Any]) -> None:
        if not self._may_write():
            return
        objects = []
        for each in wanted["objects"]:
            entry = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self.hub.objects:
                href = f"{self.hub.endpoint}/lfs/{each['oid']}"
                entry["actions"] = {"upload": {"href": href, "header": {}}}
            objects.append(entry)
        self._json({"transfer": "basic", "objects": objects})

    def _store(self, oid: str, body: bytes) -> None:
        if self.hub.uploads_left is not None:
            if self.hub.uploads_left == 0:
                self._json({"error": "gone"}, 400)
                return
            self.hub.uploads_left -= 1
        self.hub.uploads.append(oid)
        self.hub.objects[oid] = body
        self._send(b"")

    def _resolve(self, repo: Repo, revision: str, path: str) -> None:
        commit = repo.find(revision)
        data = repo.commits[commit].get(path) if commit else None
        if data is None:
            code = "EntryNotFound" if commit else "RevisionNotFound"
            self._json({"error": code}, 404, X_Error_Code=code)
            return
        headers = {"X_Repo_Commit": str(commit), "ETag": f'"{oid_of(data)}"'}
        if self.hub.cut == path and self.command == "GET":
            # The connection breaks within the file.
            self._send(data[:-1], Content_Length=str(len(data)), **headers)
            self.close_connection = True
        else:
            self._send(data, **headers)

    def _api(self, repo: Repo, name: str, verb: str, revision: str, body: bytes) -> None:
        commit = repo.find(revision)
        if commit is None:
            self._json({"error": "Invalid rev"}, 404, X_Error_Code="RevisionNotFound")
            return
        files = repo.commits[commit]
        if verb == "revision":
            siblings = [{"rfilename": path} for path in sorted(files)]
            info = {"id": name, "sha": commit, "private": repo.private, "siblings": siblings}
            self._json({**info, "tags": [], "downloads": 0, "likes": 0})
        elif verb == "tree":
            self._json([_entry(path, data) for path, data in sorted(files.items())])
        elif self._may_write() and verb == "preupload":
            self._json({"files": [_mode(each, files) for each in json.loads(body)["files"]]})
        elif verb == "commit":
            self._commit(repo, name, files, body)

    def _commit(self, repo: Repo, name: str, files: dict[str, bytes], body: bytes) -> None:
        files = dict(files)
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        oid = repo.commit(files)
        url = f"{self.hub.endpoint}/{name}/commit/{oid}"
        self._json({"success": True, "commitOid": oid, "commitUrl": url})


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data)}
    entry["oid"] = git_oid(data)
    if is_binary(data):
        entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
    return entry


def _mode(asked: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
    binary = is_binary(base64.b64decode(asked["sample"]))
    there = files.get(asked["path"])
    return {
        "path": asked["path"],
        "uploadMode": "lfs" if binary else "regular",
        "shouldIgnore": False,
        "oid": None if there is None else oid_of(there),
    }


@contextmanager
def standing_in() -> Iterator[Hub]:
    """Serve an empty Hub in a thread."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
