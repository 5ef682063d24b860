"""Deny by default, outside of any router: no application code runs for a caller who may not ask.

A route that nobody declared answers nobody. Identity comes from the token alone.
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from kit import errors
from kit.bodies import answer_problem
from kit.callers import Access, Caller
from kit.problems import is_lost_database
from kit.routes import RouteTable

Authenticator = Callable[[Scope, str], Awaitable[Caller]]
"""Tells whose token it is, or raises errors.Unauthenticated (or Unavailable, when it cannot tell just now)."""


class NotDeclared(errors.Forbidden): ...


class RoleTooLow(errors.Forbidden): ...


class RouteNotFound(errors.NotFound): ...


async def no_links(scope: Scope, token: str) -> Caller:
    """Of a service that gives none."""
    raise errors.Unauthenticated("There are no links here.")


class Guard:
    def __init__(
        self,
        app: ASGIApp,
        routes: RouteTable,
        authenticators: Mapping[str, Authenticator],
        by_link: Authenticator = no_links,
    ) -> None:
        """`authenticators` by the first characters of the tokens they know; `""` knows all others.

        `by_link` knows what ends the paths of routes that say so (kit.links), and no other.
        """
        self._by_link = by_link
        self._app = app
        self._routes = routes
        self._authenticators = sorted(authenticators.items(), key=lambda item: -len(item[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        # The routed path, never `request.url`: a Host header can change what the latter says.
        match = self._routes.find(scope["method"], scope["path"])
        scope["state"]["match"] = match
        try:
            await self._admit(scope, match.access if match else None, known=match is not None)
        except errors.Error as exc:
            await answer_problem(scope, send, exc)
            return
        except Exception as exc:
            if not is_lost_database(exc):  # an authenticator asks one
                raise
            await answer_problem(scope, send, exc)
            return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, access: Access | None, *, known: bool) -> None:
        if access is not None and access.role is None:
            return
        if access is not None and access.by_link:
            caller = await self._by_link(scope, scope["path"].rpartition("/")[2])
        else:
            caller = await self._authenticated(scope)
        scope["state"]["caller"] = caller
        if not known:
            return  # the router says 404 or 405, to those whom we know
        if access is None or access.role is None:
            raise NotDeclared("This route has no declared access.")
        if access.issuers is not None and caller.issuer not in access.issuers:
            # As if it were not there: what is internal is nobody else's business.
            raise RouteNotFound("There is nothing here.")
        if not caller.role.at_least(access.role):
            raise RoleTooLow(f"This needs the role {access.role}; yours is {caller.role}.")

    def _authenticated(self, scope: Scope) -> Awaitable[Caller]:
        token = bearer_of(scope)
        for prefix, authenticator in self._authenticators:
            if token.startswith(prefix):
                return authenticator(scope, token)
        raise errors.Unauthenticated("The token is of no kind that is known here.")


def bearer_of(scope: Scope) -> str:
    """The bearer token of a request.

    Raises:
        errors.Unauthenticated: none, two, or something else.
    """
    given: bytes | None = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            if given is not None:
                raise errors.Unauthenticated("Send your key as `Authorization: Bearer …`.")
            given = value
    scheme, _, token = (given or b"").partition(b" ")
    if scheme.lower() != b"bearer" or not token or not token.isascii():
        raise errors.Unauthenticated("Send your key as `Authorization: Bearer …`.")
    return token.decode("ascii").strip()
