"""Who is asking, and what each route asks of them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from kit.roles import Caller as Caller
from kit.roles import Role as Role

F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True)
class Access:
    """What a route asks of its caller."""

    role: Role | None
    """None: anybody, without a token."""
    issuers: frozenset[str] | None = None
    """The only ones who may vouch for the caller. None: any service of the suite."""
    streams: bool = False
    """The body is read piece by piece by the route itself, which also limits it."""
    by_link: bool = False
    """Its callers are known by the signature that ends the path, and by nothing else (kit.links)."""


PUBLIC = Access(role=None)


def requires(
    role: Role, *, issuers: Collection[str] | None = None, streams: bool = False, by_link: bool = False
) -> Callable[[F], F]:
    """Declare who may call an endpoint. One without a declaration answers nobody (kit.guard)."""
    access = Access(role, None if issuers is None else frozenset(issuers), streams, by_link)

    def declare(endpoint: F) -> F:
        endpoint.__access__ = access  # type: ignore[attr-defined]
        return endpoint

    return declare


def public(endpoint: F) -> F:
    """Declare that an endpoint answers anybody."""
    endpoint.__access__ = PUBLIC  # type: ignore[attr-defined]
    return endpoint


def access_of(endpoint: object) -> Access | None:
    declared = getattr(endpoint, "__access__", None)
    return declared if isinstance(declared, Access) else None


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]
