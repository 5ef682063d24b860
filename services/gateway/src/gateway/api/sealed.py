"""Routes whose answers hold a new API key: what kit.idempotency stores of them is sealed."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from gateway.domain.sealing import Unsealable, seal, unseal
from kit import errors, guard, idempotency

Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class SealedForAnother(errors.Invalid): ...


class _Sealing(APIRoute):
    """Inside of kit.idempotency: what it is given to store is sealed."""

    def get_route_handler(self) -> Handle:
        handle = super().get_route_handler()

        async def sealing(request: Request) -> Response:
            response = await handle(request)
            if _stores(request):
                response.body = seal(bytes(response.body), guard.bearer_of(request.scope))
            return response

        return sealing


class Route(idempotency.Route, _Sealing):
    """A route whose POSTs may bring an idempotency key, and whose answers are secret."""

    def get_route_handler(self) -> Handle:
        handle = super().get_route_handler()

        async def unsealing(request: Request) -> Response:
            response = await handle(request)
            if not _stores(request):
                return response
            try:
                body = unseal(bytes(response.body), guard.bearer_of(request.scope))
            except Unsealable:
                raise SealedForAnother("This idempotency key was used with another API key.") from None
            headers = {name: value for name, value in response.headers.items() if name != "content-length"}
            return Response(body, response.status_code, headers)

        return unsealing


def _stores(request: Request) -> bool:
    return request.method == "POST" and idempotency.HEADER in request.headers
