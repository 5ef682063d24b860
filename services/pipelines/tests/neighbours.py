"""The four services that a pipeline asks, each in memory, behind the transport of the HTTP client.

They keep their promises: idempotency keys, ETags, equal things are made once. What takes time at the real ones ends
when a test says so, or at once.
"""

import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2

from kit import tokens

Answer = httpx2.Response
JOB_METRICS = {"roc_auc": 0.72, "baseline_roc_auc": 0.65}


def problem(status: int, code: str, detail: str, errors: list[dict[str, str]] | None = None) -> Answer:
    body = {"status": status, "code": code, "detail": detail, "errors": errors or []}
    return Answer(status, content=json.dumps(body), headers={"content-type": "application/problem+json"})


def digest_of(value: Any) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()}"


class Neighbour:
    """One service. `away` makes it answer nobody; `before` is called with each request, and may answer it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.away = False
        self.requests: list[tuple[str, str]] = []
        self.principals: list[dict[str, Any]] = []
        self.keys: dict[str, Answer] = {}
        self.before: Callable[[httpx2.Request], Awaitable[Answer | None]] | None = None
        self.after: Callable[[httpx2.Request], Awaitable[None]] | None = None

    async def __call__(self, request: httpx2.Request) -> Answer:
        if self.away:
            raise httpx2.ConnectError("away", request=request)
        self.requests.append((request.method, request.url.path))
        self.principals.append(principal_of(request))
        if self.before is not None and (answer := await self.before(request)) is not None:
            return answer
        key = request.headers.get("idempotency-key")
        if key in self.keys:
            answer = self.keys[key]
        else:
            answer = self.answer(request, request.url.path.split("/")[2:])
            if key is not None and answer.status_code < 400:
                self.keys[key] = answer
        if self.after is not None:
            await self.after(request)
        return Answer(answer.status_code, content=answer.content, headers=dict(answer.headers))

    def answer(self, request: httpx2.Request, path: list[str]) -> Answer:
        raise NotImplementedError

    def http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.MockTransport(self), base_url=f"http://{self.name}")

    def asked(self, method: str) -> int:
        """How many requests with this verb were answered."""
        return sum(1 for verb, _ in self.requests if verb == method)


def principal_of(request: httpx2.Request) -> dict[str, Any]:
    token = request.headers["authorization"].removeprefix("Bearer ")
    return dict(tokens._part(token.split(".")[1]))


class Ingest(Neighbour):
    def __init__(self) -> None:
        super().__init__("ingest")
        self.settings: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, list[dict[str, Any]]] = {}
        self.at_once = True

    def answer(self, request: httpx2.Request, path: list[str]) -> Answer:
        match request.method, path:
            case "GET", ["datasets", name]:
                if name not in self.settings:
                    return problem(404, "dataset-not-found", f"There is no dataset {name}.")
                return self._dataset(name)
            case "PUT", ["datasets", name]:
                if name in self.settings and request.headers.get("if-match") != self._etag(name):
                    return problem(412, "changed", "It has changed.")
                self.settings[name] = {"nulls": [""], **json.loads(request.content)["settings"]}
                return self._dataset(name)
            case "POST", ["datasets", name, "versions"]:
                return Answer(202, json=self._make(name, json.loads(request.content)))
            case "GET", ["datasets", name, "versions", reference]:
                return self._version(name, reference)
        raise AssertionError(request)

    def finish(self, name: str, number: int, phase: str = "ready", **status: str) -> None:
        version = self.versions[name][number - 1]
        version["status"] = {"phase": phase, "reason": "", "message": "", **status}
        if phase == "ready":
            version["digest"] = digest_of([version["source"], version["settings"]])
            version |= {"rows": 90, "rejected": 10, "rows_in": 100, "splits": {"train": 70, "held_out": 20}}

    def _make(self, name: str, source: dict[str, Any]) -> dict[str, Any]:
        made = self.versions.setdefault(name, [])
        for version in made:
            same = (version["source"], version["settings"]) == (source, self.settings[name])
            if same and version["status"]["phase"] != "failed":
                return version
        status = {"phase": "pending", "reason": "", "message": ""}
        settings = self.settings[name]
        made.append(
            {"dataset": name, "version": len(made) + 1, "status": status, "source": source, "settings": settings}
        )
        if self.at_once:
            self.finish(name, len(made))
        return made[-1]

    def _version(self, name: str, reference: str) -> Answer:
        found = [version for version in self.versions.get(name, []) if not version.get("gone")]
        if reference == "latest":
            found = [version for version in found if version["status"]["phase"] == "ready"][-1:]
        else:
            found = [version for version in found if reference in (str(version["version"]), version.get("digest"))]
        if not found:
            return problem(404, "version-not-found", f"There is no version {reference} of {name}.")
        return Answer(200, json=found[0])

    def _dataset(self, name: str) -> Answer:
        body = {"name": name, "settings": self.settings[name]}
        return Answer(200, json=body, headers={"etag": self._etag(name)})

    def _etag(self, name: str) -> str:
        return f'"{digest_of(self.settings[name])[7:20]}"'


class Trainer(Neighbour):
    def __init__(self, registry: "Registry") -> None:
        super().__init__("trainer")
        self.jobs: dict[str, dict[str, Any]] = {}
        self.at_once = True
        self._registry = registry

    def answer(self, request: httpx2.Request, path: list[str]) -> Answer:
        match request.method, path:
            case "POST", ["jobs"]:
                spec = json.loads(request.content)
                if "nonsense" in spec["estimator"]["class"]:
                    places = [{"pointer": "#/estimator/class", "detail": "is no estimator"}]
                    return problem(422, "estimator-invalid", "Unknown estimator.", places)
                job_id = str(uuid.uuid4())
                self.jobs[job_id] = {"id": job_id, "status": {"phase": "pending"}, "spec": spec}
                self.jobs[job_id] |= {"dataset": spec["dataset"], "metrics": None, "model": None}
                if self.at_once:
                    self.finish(job_id)
                return Answer(202, json=self.jobs[job_id])
            case "GET", ["jobs", job_id]:
                return Answer(200, json=self.jobs[job_id])
            case "POST", ["jobs", job_id, "cancel"]:
                if self.jobs[job_id]["status"]["phase"] in ("succeeded", "failed"):
                    return problem(409, "job-finished", "It has ended.")
                self.jobs[job_id]["status"] = {"phase": "cancelled"}
                return Answer(202, json=self.jobs[job_id])
        raise AssertionError(request)

    def finish(self, job_id: str, phase: str = "succeeded", reason: str = "", message: str = "") -> None:
        job = self.jobs[job_id]
        job["status"] = {"phase": phase, "reason": reason, "message": message}
        if phase == "succeeded":
            job["metrics"] = dict(JOB_METRICS)
            if "register" in job["spec"]:
                made = self._registry.register(job["spec"]["register"]["model"], job["spec"])
                job["model"] = {"name": made["model"], "version": made["version"], "digest": made["digest"]}


class Registry(Neighbour):
    def __init__(self) -> None:
        super().__init__("registry")
        self.versions: dict[str, list[dict[str, Any]]] = {}
        self.aliases: dict[tuple[str, str], int] = {}
        self.moves: list[tuple[str, int]] = []

    def register(self, model: str, content: Any) -> dict[str, Any]:
        made = self.versions.setdefault(model, [])
        digest = digest_of(content)
        for version in made:
            if version["digest"] == digest:
                return version
        made.append({"model": model, "version": len(made) + 1, "digest": digest})
        return made[-1]

    def answer(self, request: httpx2.Request, path: list[str]) -> Answer:
        match request.method, path:
            case "GET", ["models", model, "versions", reference]:
                return self._version(model, reference)
            case "GET", ["models", model, "aliases", alias]:
                if (model, alias) not in self.aliases:
                    return problem(404, "alias-not-found", "There is no such alias.")
                return self._alias(model, alias)
            case "PUT", ["models", model, "aliases", alias]:
                there = self.aliases.get((model, alias))
                expected = f'"{there}"' if there is not None else None
                if request.headers.get("if-match") != expected:
                    return problem(412, "changed", "It has changed.")
                version = json.loads(request.content)["version"]
                if not any(known["version"] == version for known in self.versions.get(model, [])):
                    return problem(404, "version-not-found", f"There is no version {version} of {model}.")
                self.aliases[model, alias] = version
                self.moves.append((alias, version))
                return self._alias(model, alias)
        raise AssertionError(request)

    def _version(self, model: str, reference: str) -> Answer:
        wanted = str(self.aliases.get((model, reference), reference))
        found = [known for known in self.versions.get(model, []) if wanted in (str(known["version"]), known["digest"])]
        if reference == "latest":
            found = self.versions.get(model, [])[-1:]
        if not found or found[0].get("gone"):
            return problem(404, "version-not-found", f"There is no version {reference} of {model}.")
        return Answer(200, json=found[0])

    def _alias(self, model: str, alias: str) -> Answer:
        version = self.aliases[model, alias]
        return Answer(200, json={"alias": alias, "version": version}, headers={"etag": f'"{version}"'})


class Serving(Neighbour):
    def __init__(self, registry: Registry) -> None:
        super().__init__("serving")
        self.deployments: dict[str, dict[str, Any]] = {}
        self.at_once = True
        self._registry = registry

    def answer(self, request: httpx2.Request, path: list[str]) -> Answer:
        match request.method, path:
            case "GET", ["deployments", name]:
                if name not in self.deployments:
                    return problem(404, "deployment-not-found", f"There is no deployment {name}.")
                if self.at_once:
                    self.finish(name)
                return self._deployment(name)
            case "PUT", ["deployments", name]:
                return self._put(name, request)
        raise AssertionError(request)

    def finish(self, name: str, phase: str = "ready", reason: str = "", message: str = "") -> None:
        """It serves what its references mean by now."""
        found = self.deployments[name]
        status = {"phase": phase, "reason": reason, "message": message, "observed_generation": found["generation"]}
        found["status"] = status
        if phase == "ready":
            found["revision"] = {"id": 1, "targets": [self._target(part) for part in found["models"]]}

    def _target(self, part: dict[str, Any]) -> dict[str, Any]:
        model, _, reference = part["model"].partition("@")
        version = self._registry.aliases.get((model, reference)) or int(reference)
        return {"model": model, "version": version, "weight": part["weight"]}

    def _put(self, name: str, request: httpx2.Request) -> Answer:
        body = json.loads(request.content)
        models = body.get("models") or [{"model": body["model"], "weight": 100}]
        found = self.deployments.get(name)
        if found is not None and request.headers.get("if-match") != f'"{found["generation"]}"':
            return problem(412, "changed", "It has changed.")
        if found is None or found["models"] != models:
            generation = found["generation"] + 1 if found else 1
            status = {"phase": "pending", "observed_generation": generation - 1}
            self.deployments[name] = {"name": name, "models": models, "generation": generation, "status": status}
        if self.at_once:
            self.finish(name)
        return self._deployment(name)

    def _deployment(self, name: str) -> Answer:
        found = self.deployments[name]
        return Answer(200, json=found, headers={"etag": f'"{found["generation"]}"'})
