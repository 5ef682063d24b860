"""The suite's own client speaks with this gateway: names, roles, preconditions, repetitions."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from trainyard import Client
from trainyard.errors import Forbidden, Invalid, NotFound, ProblemError, Unauthenticated

from .gateways import Door, says

T = TypeVar("T")


async def asking(door: Door, work: Callable[[Client], T], key: str = "admin") -> T:
    """Do `work` with a client in a thread of its own, since it blocks."""

    def run() -> T:
        with Client(f"http://127.0.0.1:{door.port}", door.keys.get(key, key), environment={}) as client:
            return work(client)

    return await asyncio.to_thread(run)


async def test_keys(door: Door) -> None:
    def work(client: Client) -> str:
        made = client.keys.create("laptop", role="editor", scopes=["read", "write"], expires_in_days=3, subject="eve")
        assert made.key is not None
        assert (made.name, made.role, made.scopes, made.subject) == ("laptop", "editor", ("read", "write"), "eve")
        assert made.created_at is not None
        assert made.expires_at is not None
        listed = {key.id: key for key in client.keys.list()}
        assert listed[made.id].key is None
        client.keys.revoke(made.id)
        assert {key.id: key for key in client.keys.list()}[made.id].revoked_at is not None
        with pytest.raises(NotFound):
            client.keys.revoke("nothing0")
        with pytest.raises(Invalid):
            client.keys.create("a", role="root")
        return made.key

    key = await asking(door, work)
    with pytest.raises(Unauthenticated):
        await asking(door, lambda client: client.whoami(), key)
    with pytest.raises(Forbidden):
        await asking(door, lambda client: list(client.keys.list()), "editor")


async def test_projects_and_members(door: Door) -> None:
    for noun in ("datasets", "models", "deployments", "pipelines"):
        door.upstream.replies[f"/v1/{noun}"] = says({"items": []})

    def work(client: Client) -> None:
        assert client.projects.create("child").name == "child"
        assert [project.name for project in client.projects.list()] == ["blue", "child"]
        assert client.projects.get("child").created_at is not None
        assert client.projects.put_member("child", "eve", "viewer").role == "viewer"
        assert client.projects.put_member("child", "eve", "editor").role == "editor"
        members = [(member.subject, member.role) for member in client.projects.members("child")]
        assert members == [("ada", "admin"), ("eve", "editor")]
        client.projects.delete_member("child", "eve")
        with pytest.raises(ProblemError):
            client.projects.delete_member("child", "ada")
        client.projects.delete("child")
        with pytest.raises(NotFound):
            client.projects.get("child")

    await asking(door, work)


async def test_who_and_how(door: Door) -> None:
    door.upstream.replies["/readyz"] = says({"ready": True})
    who = await asking(door, lambda client: client.whoami(), "viewer")
    assert (who["project"], who["subject"], who["role"]) == ("blue", "vic", "viewer")
    services = (await asking(door, lambda client: client.status()))["services"]
    assert len(services) == 6
    assert all(it["ready"] for it in services.values())


async def test_a_refusal_of_the_inference_protocol_is_understood(door: Door) -> None:
    def work(client: Client) -> None:
        with pytest.raises(Forbidden, match="scopes"):
            client._wire.request("POST", "/v2/repository/models/a/load")

    await asking(door, work, "viewer")
