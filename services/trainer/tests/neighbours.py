"""Ingest and the registry as the trainer knows them: small servers on loopback that remember what they were asked."""

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

Answer = tuple[int, bytes, str]


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def parquet_of(table: pa.Table) -> bytes:
    out = BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked was killed in the middle."""


class Neighbours:
    """One server that answers as both would. Datasets and answers may be changed while it runs."""

    def __init__(self) -> None:
        self.versions: dict[str, dict[str, Any]] = {}
        self.shards: dict[str, bytes] = {}
        self.holds: set[tuple[str, str]] = set()
        self.blobs: dict[str, bytes] = {}
        self.models: dict[str, list[dict[str, Any]]] = {}
        self.calls: list[tuple[str, str]] = []
        self.answers: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
        """(verb, part of the path) → (status, document): given instead of the ordinary answer."""
        world = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self._body()
                status, content, kind = world.answer(self.command, self.path, body)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def _body(self) -> bytes:
                if "chunked" in self.headers.get("Transfer-Encoding", ""):
                    parts = []
                    while size := int(self.rfile.readline(), 16):
                        parts.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(parts)
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            do_GET = do_PUT = do_POST = do_DELETE = _answer

            def log_message(self, *args: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add_version(
        self,
        reference: str = "flights@3",
        *,
        train: pa.Table | None = None,
        held_out: pa.Table | None = None,
        phase: str = "ready",
        columns: Sequence[str] = (),
    ) -> None:
        """A dataset version with these rows."""
        name, _, number = reference.partition("@")
        shards, schema = list[dict[str, Any]](), list(columns)
        for split, table in (("train", train), ("held_out", held_out)):
            if table is not None:
                content = parquet_of(table)
                self.shards[digest_of(content)] = content
                shard = {"digest": digest_of(content), "rows": table.num_rows, "size": len(content), "split": split}
                shards.append(shard)
                schema = table.column_names
        self.versions[reference] = {
            "dataset": name,
            "version": int(number),
            "digest": digest_of(json.dumps(shards).encode()) if phase == "ready" else None,
            "status": {"phase": phase, "reason": "", "message": "no rows" if phase == "failed" else ""},
            "schema": [{"name": column, "type": "string"} for column in schema],
            "shards": shards,
        }

    @contextmanager
    def answering(self, verb: str, part: str, status: int, document: dict[str, Any]) -> Iterator[None]:
        self.answers[verb, part] = (status, document)
        yield
        del self.answers[verb, part]

    def answer(self, verb: str, target: str, body: bytes) -> Answer:
        url = urlsplit(target)
        self.calls.append((verb, url.path))
        for (wanted, part), (status, document) in list(self.answers.items()):
            if verb == wanted and part in url.path:
                return problem(status, document)
        match url.path.strip("/").split("/"):
            case ["v1", "datasets", name, "versions", number, *rest]:
                return self._version(f"{name}@{number}", rest)
            case ["internal", "v1", "events"]:
                return ok({"events": [], "cursor": parse_qs(url.query)["after"][0]})
            case ["internal", "v1", "holds"]:
                return self._hold(verb, url, body)
            case ["internal", "v1", "blobs", digest]:
                if digest_of(body) != digest:
                    return problem(422, {"code": "digest-mismatch", "detail": "other bytes"})
                self.blobs[digest] = body
                return ok({"digest": digest, "size": len(body)})
            case ["internal", "v1", "models", name, "versions"]:
                return self._model_version(name, json.loads(body))
        return problem(404, {"code": "not-found", "detail": f"nothing at {url.path}"})

    def _version(self, reference: str, rest: list[str]) -> Answer:
        name = reference.partition("@")[0]
        if reference.endswith("@latest"):
            known = [each for each in self.versions if each.startswith(f"{name}@")]
            reference = max(known, default=reference)
        if reference not in self.versions:
            return problem(404, {"code": "version-not-found", "detail": f"There is no version {reference}."})
        version = self.versions[reference]
        match rest:
            case []:
                return ok({key: value for key, value in version.items() if key != "shards"})
            case ["shards"]:
                return ok({"digest": version["digest"], "schema": version["schema"], "shards": version["shards"]})
        return 200, self.shards[rest[-1]], "application/vnd.apache.parquet"

    def _hold(self, verb: str, url: SplitResult, body: bytes) -> Answer:
        if verb == "DELETE":
            asked = {name: values[0] for name, values in parse_qs(url.query).items()}
            self.holds.discard((asked["ref"], asked["holder"]))
            return 204, b"", "application/json"
        hold = json.loads(body)
        if hold["ref"] not in self.versions:
            return problem(404, {"code": "version-not-found", "detail": "It is deleted."})
        self.holds.add((hold["ref"], hold["holder"]))
        return ok(hold)

    def _model_version(self, name: str, manifest: dict[str, Any]) -> Answer:
        missing = [each["path"] for each in manifest["formats"] if each["digest"] not in self.blobs]
        if missing:
            return problem(409, {"code": "blob-missing", "detail": f"There are no bytes of {missing}."})
        # As the registry does: without the job, the attempt and the numbers that were measured.
        content = {key: manifest[key] for key in ("formats", "signature", "task", "parameters")}
        content["dataset"] = manifest["lineage"]["dataset_digest"]
        digest = digest_of(json.dumps(content, sort_keys=True).encode())
        versions = self.models.setdefault(name, [])
        if digest not in [known["digest"] for known in versions]:
            versions.append({"model": name, "version": len(versions) + 1, "digest": digest, "manifest": manifest})
        return ok(next(known for known in versions if known["digest"] == digest))


def ok(document: object) -> Answer:
    return 200, json.dumps(document).encode(), "application/json"


def problem(status: int, document: object) -> Answer:
    return status, json.dumps(document).encode(), "application/problem+json"
