"""A Hub on this machine that speaks as much of its protocol as huggingface_hub's uploads and downloads ask for."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from huggingface_hub import constants

TOKEN = "hf_token-of-a-test"


class Hub(ThreadingHTTPServer):
    """Repositories of models and data sets, in memory.

    Attributes:
        repos: files of each repository by path; data sets' names begin with ``datasets/``.
        private: those made private.
        cards: the READMEs that were sent to be checked.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.cards: list[str] = []
        self.objects: dict[str, bytes] = {}
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, repo: str) -> str:
        """Forty digits that the repository's files determine."""
        told = sorted((path, hashlib.sha256(data).hexdigest()) for path, data in self.repos[repo].items())
        return hashlib.sha1(json.dumps(told).encode()).hexdigest()


@contextmanager
def hub_double(cache: Path) -> Iterator[Hub]:
    """The Hub of this process, whose client has an empty cache and one who may write is logged in."""
    hub = Hub()
    threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(constants, "ENDPOINT", hub.url)
            template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
            patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            patch.setattr("huggingface_hub.hf_api.api.endpoint", hub.url)
            patch.setattr(constants, "HF_HUB_CACHE", str(cache))
            patch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its storage speaks a protocol of its own
            patch.setattr(constants, "HF_HUB_OFFLINE", False)
            patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
            patch.setenv("HF_TOKEN", TOKEN)
            yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _send(self, data: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _json(self, value: Any, status: int = 200, **headers: str) -> None:
        self._send(json.dumps(value).encode(), status, Content_Type="application/json", **headers)

    def _missing(self) -> None:
        self._json({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

    @property
    def _path(self) -> list[str]:
        """The parts of the path, of which the repository's name is one."""
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        at = 1 if path[0] == "api" else 0
        if path[at] == "datasets":
            path[at:] = [*(["models"] if at else []), f"datasets/{'/'.join(path[at + 1 : at + 3])}", *path[at + 3 :]]
        elif path[at] == "models" or (not at and len(path) > 2):
            at = at and at + 1
            path[at:] = ["/".join(path[at : at + 2]), *path[at + 2 :]]
        return path

    def do_POST(self) -> None:
        body, path = self._body(), self._path
        if path == ["api", "validate-yaml"]:
            self.server.cards.append(json.loads(body)["content"])
            self._json({"warnings": [], "errors": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json({"error": "Invalid credentials in Authorization header"}, 401)
        elif path == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif path[:2] == ["api", "models"] and path[2] not in self.server.repos:
            self._missing()
        elif path[:2] == ["api", "models"] and path[3] == "paths-info":
            wanted = parse_qs(body.decode())["paths"] if body[:1] != b"{" else json.loads(body)["paths"]
            files = self.server.repos[path[2]]
            self._json([found for name in wanted for found in _listed(files, name.rpartition("/")[0], name)])
        elif path[:2] == ["api", "models"] and path[3] == "preupload":
            modes = {True: "lfs", False: "regular"}
            files = [
                {
                    "path": file["path"],
                    "shouldIgnore": False,
                    "uploadMode": modes[file["path"].endswith((".safetensors", ".tar"))],
                }
                for file in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif path[:2] == ["api", "models"] and path[3] == "commit":
            self._commit(path[2], [json.loads(line) for line in body.splitlines()])
        elif path[-2:] == ["objects", "batch"]:
            wanted = json.loads(body)["objects"]
            actions = [
                thing | {"actions": {"upload": {"href": f"{self.server.url}/objects/{thing['oid']}"}}}
                for thing in wanted
            ]
            self._json({"transfer": "basic", "objects": actions})
        else:
            self._json({"error": "not spoken here"}, 501)

    def _create(self, asked: dict[str, Any]) -> None:
        owner = asked.get("organization") or "someone"
        repo = f"{owner}/{asked['name']}"
        if repo.startswith("others/"):
            self._json({"error": f"You don't have the rights to create a model under the namespace {owner!r}"}, 403)
            return
        there = repo in self.server.repos
        self.server.repos.setdefault(repo, {})
        if asked.get("visibility") == "private" or asked.get("private"):  # as of huggingface_hub 2, and of 1
            self.server.private.add(repo)
        self._json({"url": f"{self.server.url}/{repo}", "name": repo, "id": repo}, 409 if there else 200)

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        files = self.server.repos[repo]
        for line in lines:
            told = line["value"]
            if line["key"] == "file":
                files[told["path"]] = base64.b64decode(told["content"])
            elif line["key"] == "lfsFile":
                files[told["path"]] = self.server.objects[told["oid"]]
            elif line["key"] == "deletedFile":
                del files[told["path"]]
        commit = self.server.commit(repo)
        self._json({"commitUrl": f"{self.server.url}/{repo}/commit/{commit}", "commitOid": commit})

    def do_PUT(self) -> None:
        data = self._body()
        assert hashlib.sha256(data).hexdigest() == self._path[1]
        self.server.objects[self._path[1]] = data
        self._send(b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self._path
        api = path[:2] == ["api", "models"]
        repo = path[2] if api else path[0]
        if repo not in self.server.repos or (
            repo in self.server.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        ):
            self._missing()
            return
        files, commit = self.server.repos[repo], self.server.commit(repo)
        if api and path[3:4] == ["tree"]:
            folder = "/".join(path[5:])
            whole = "recursive=true" in self.path.lower()
            if found := [_entry(*file) for file in files.items()] if whole else _listed(files, folder):
                self._json(found)
            else:
                self._json({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
        elif api:
            siblings = [{"rfilename": name} for name in files]
            private = repo in self.server.private
            self._json(
                {"id": repo, "modelId": repo, "sha": commit, "private": private, "siblings": siblings, "tags": []}
            )
        elif path[1:2] == ["resolve"] and (name := "/".join(path[3:])) in files:
            headers = {"ETag": f'"{_blob(files[name])}"', "X_Repo_Commit": commit, "Accept_Ranges": "bytes"}
            data, status = files[name], 200
            if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
                headers["Content_Range"], status = f"bytes {first}-{last}/{len(data)}", 206
                data = data[first : last + 1]
            self._send(data, status, **headers)
        else:
            self._json({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")


def _listed(files: dict[str, bytes], folder: str, only: str | None = None) -> list[dict[str, Any]]:
    """What lies in a folder, files and folders; or the one of that path."""
    found: dict[str, dict[str, Any]] = {}
    before = f"{folder}/" if folder else ""
    for name, data in files.items():
        if name.startswith(before):
            first, below, _ = name[len(before) :].partition("/")
            path = before + first
            found[path] = {"type": "directory", "path": path, "oid": "0" * 40} if below else _entry(name, data)
    return [each for path, each in found.items() if only in (None, path)]


def _blob(data: bytes) -> str:
    """What git calls a file's bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(name: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(data), "oid": _blob(data)}
