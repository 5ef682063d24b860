"""A registry as serving knows it: a small server on loopback, whose models and moods a test decides."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from worlds import Trained

from kit.testing import KeyFolder
from kit.tokens import load_verifier

Reply = tuple[int, bytes]
PROBLEM = "application/problem+json"
OPEN = "2024-11-25T10:00:00Z"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Registry:
    """What it holds, and what it was asked."""

    def __init__(self, keys: KeyFolder) -> None:
        self._verifier = load_verifier(keys.public, "registry")
        self._news = threading.Condition()
        self.versions: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
        self.aliases: dict[tuple[str, str, str], int] = {}
        self.contents: dict[str, bytes] = {}
        self.events: list[dict[str, Any]] = []
        self.holds: set[tuple[str, str, str]] = set()
        """Project, ref and holder."""
        self.calls: list[str] = []
        self.is_away = False
        self.refuses: dict[str, Reply] = {}
        """By a part of the path: answered instead."""
        self.slow: dict[str, threading.Event] = {}
        """By a part of the path: what it waits for before it answers."""

    def register(self, model: str, made: Trained, project: str = "demo") -> int:
        """A new version."""
        versions = self.versions.setdefault((project, model), {})
        number = max(versions, default=0) + 1
        described = []
        for kind, content in made.files.items():
            self.contents[digest_of(content)] = content
            file = {"format": kind, "path": f"model.{kind}", "digest": digest_of(content), "size": len(content)}
            described.append(file)
        signature = made.signature.to_json()
        versions[number] = {
            "model": model,
            "version": number,
            "digest": digest_of(json.dumps([described, number]).encode()),
            "formats": described,
            "signature": signature,
            "task": signature["task"],
            "input_example": made.example,
            "lineage": {"dataset": "flights@1"},
            "created_at": OPEN,
        }
        self.happened("model.version.registered", project, {"model": model, "version": number})
        return number

    def move(self, model: str, alias: str, version: int, project: str = "demo") -> None:
        self.aliases[(project, model, alias)] = version
        self.happened("model.alias.moved", project, {"model": model, "alias": alias, "version": version})

    def forget(self, model: str, version: int, project: str = "demo") -> None:
        """Delete a version, held or not, without a word."""
        del self.versions[(project, model)][version]

    def happened(self, kind: str, project: str, data: dict[str, Any]) -> None:
        with self._news:
            number = len(self.events) + 1
            event = {"id": f"1:{number}", "project": project, "kind": kind, "subject": "", "data": data, "at": OPEN}
            self.events.append(event)
            self._news.notify_all()

    def reply(self, method: str, target: str, token: str, body: bytes) -> Reply:
        """What it answers to a request."""
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        self.calls.append(f"{method} {path}")
        for part, event in self.slow.items():
            if part in path:
                event.wait(60)
        for part, said in self.refuses.items():
            if part in path:
                return said
        project = self._verifier.verify(token).project
        if path == "/internal/v1/events":
            return self._feed(query["after"][0], query["wait"][0])
        if path == "/internal/v1/holds":
            return self._hold(method, project, query, body)
        found = re.fullmatch(r"/v1/models/([^/]+)/versions/([^/]+)(/files/(.+))?", path)
        version = found and self._version(project, unquote(found[1]), unquote(found[2]))
        if not found or version is None:
            return 404, json.dumps({"status": 404, "detail": "There is no such version."}).encode()
        if found[4] is None:
            return 200, json.dumps(version).encode()
        file = next(file for file in version["formats"] if file["path"] == found[4])
        return 200, self.contents[file["digest"]]

    def _version(self, project: str, model: str, ref: str) -> dict[str, Any] | None:
        versions = self.versions.get((project, model), {})
        if ref == "latest":
            return versions.get(max(versions, default=0))
        if ref.startswith("sha256:"):
            return next((it for it in versions.values() if it["digest"] == ref), None)
        return versions.get(int(ref) if ref.isdigit() else self.aliases.get((project, model, ref), 0))

    def _feed(self, after: str, wait: str) -> Reply:
        seen = int(after.partition(":")[2])
        ends = time.monotonic() + min(float(wait.rstrip("s")), 2)
        with self._news:
            while len(self.events) <= seen and (left := ends - time.monotonic()) > 0 and not self.is_away:
                self._news.wait(left)
            events = self.events[seen:]
        return 200, json.dumps({"events": events, "cursor": events[-1]["id"] if events else after}).encode()

    def _hold(self, method: str, project: str, query: dict[str, list[str]], body: bytes) -> Reply:
        asked = json.loads(body) if method == "PUT" else {name: values[0] for name, values in query.items()}
        model, _, version = asked["ref"].partition("@")
        assert asked["noun"] == "model-version"
        key = (project, asked["ref"], asked["holder"])
        if method == "DELETE":
            self.holds.discard(key)
            return 204, b""
        if self._version(project, model, version) is None:
            return 404, json.dumps({"status": 404, "detail": "There is no such version."}).encode()
        self.holds.add(key)
        return 200, json.dumps(asked).encode()

    def held(self, project: str = "demo") -> set[str]:
        """The refs that anybody holds."""
        return {ref for of, ref, _ in self.holds if of == project}

    def wake(self) -> None:
        with self._news:
            self._news.notify_all()


@contextmanager
def serving_registry(keys: KeyFolder) -> Iterator[tuple[Registry, str]]:
    """A registry, and its URL."""
    registry = Registry(keys)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if registry.is_away:
                self.close_connection = True
                self.connection.close()
                return
            token = self.headers["Authorization"].removeprefix("Bearer ")
            status, content = registry.reply(self.command, self.path, token, body)
            self.send_response(status)
            self.send_header("Content-Type", PROBLEM if status >= 400 else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

        def handle(self) -> None:
            # A client that left, or a connection that was closed on purpose.
            with suppress(OSError, ValueError):
                super().handle()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield registry, f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            registry.is_away = True
            registry.wake()
            server.shutdown()
            thread.join()
