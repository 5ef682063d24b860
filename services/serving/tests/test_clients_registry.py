"""What serving sends to the registry, and how it reads the answers."""

from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
from targets import SIGNATURE, digest

from kit import errors
from kit.callers import Role
from kit.clients import ServiceClient
from kit.testing import KeyFolder
from kit.tokens import load_signer, load_verifier
from serving.clients.registry import AnswerNotUnderstood, Registry
from serving.domain.deployments import Reference

Handler = Callable[[httpx2.Request], httpx2.Response]
FOUND = {
    "model": "late",
    "version": 3,
    "digest": digest(),
    "formats": [{"format": "onnx", "path": "model.onnx", "digest": digest("b"), "size": 10}],
    "signature": SIGNATURE,
    "input_example": [{"carrier": "UA"}],
    "lineage": {"more": "than serving reads"},
}


@pytest.fixture
async def ask(key_folder: KeyFolder) -> AsyncIterator[Callable[[Handler], Registry]]:
    clients = []

    def make(handler: Handler) -> Registry:
        http = httpx2.AsyncClient(base_url="http://registry", transport=httpx2.MockTransport(handler))
        clients.append(http)
        return Registry(ServiceClient(http, load_signer(key_folder.private("serving")), "registry"))

    yield make
    for http in clients:
        await http.aclose()


async def test_a_version_is_asked_for_as_the_project_s_viewer(
    ask: Callable[[Handler], Registry], key_folder: KeyFolder
) -> None:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200, json=FOUND)

    found = await ask(answer).version("demo", Reference("late", "champion"))
    assert found == {name: FOUND[name] for name in FOUND if name != "lineage"}
    [request] = asked
    assert request.url.path == "/v1/models/late/versions/champion"
    caller = load_verifier(key_folder.public, "registry").verify(request.headers["authorization"][7:])
    assert (caller.project, caller.role, caller.issuer) == ("demo", Role.VIEWER, "serving")


async def test_a_version_that_is_not_there_or_not_understood_is_said_so(ask: Callable[[Handler], Registry]) -> None:
    with pytest.raises(errors.NotFound):
        await ask(lambda _: httpx2.Response(404)).version("demo", Reference("late", "9"))
    with pytest.raises(AnswerNotUnderstood):
        await ask(lambda _: httpx2.Response(200, json={"version": 3})).version("demo", Reference("late", "3"))


async def test_files_stream_and_what_is_refused_is_raised(ask: Callable[[Handler], Registry]) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/models/late/versions/3/files/model.onnx":
            return httpx2.Response(200, content=b"the bytes")
        return httpx2.Response(502, json={}, headers={"content-type": "application/problem+json"})

    async with ask(answer).file("demo", "late", 3, "model.onnx") as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"the bytes"
    with pytest.raises(errors.Corrupt):
        async with ask(answer).file("demo", "late", 3, "other"):
            pass


async def test_versions_are_held_and_let_go_and_the_feed_is_read(ask: Callable[[Handler], Registry]) -> None:
    said: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        said.append(f"{request.method} {request.url.raw_path.decode()} {request.content.decode()}")
        if request.method == "GET":
            return httpx2.Response(200, json={"events": [], "cursor": "0:0"})
        return httpx2.Response(204) if request.method == "DELETE" else httpx2.Response(200, json={"ref": "late@3"})

    registry = ask(answer)
    await registry.hold("demo", "late@3", "serving/deployment/7")
    await registry.release("demo", "late@3", "serving/deployment/7")
    assert (await registry.events("0:0")).cursor == "0:0"
    assert [line.split(" ")[0] for line in said] == ["PUT", "DELETE", "GET"]
    assert '"noun":"model-version"' in said[0].replace(" ", "")
    assert "ref=late%403" in said[1]
