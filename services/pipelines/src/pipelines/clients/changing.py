"""PUT of a thing that can change: from what it is now."""

import contextlib

import httpx2

from kit import errors
from kit.clients import Principal, ServiceClient
from pipelines.clients.answers import etag_of


async def put(service: ServiceClient, principal: Principal, path: str, body: object) -> httpx2.Response:
    """Make the thing, or change it. What it is already is not changed.

    Raises:
        errors.PreconditionFailed: somebody else changes it at this very moment, again and again.
    """
    try:
        return await _put(service, principal, path, body)
    except (errors.PreconditionFailed, errors.PreconditionRequired):
        # An earlier try of ours may have been the change that the later one met: once more, from what is there now.
        return await _put(service, principal, path, body)


async def _put(service: ServiceClient, principal: Principal, path: str, body: object) -> httpx2.Response:
    headers = {"if-none-match": "*"}
    with contextlib.suppress(errors.NotFound):
        headers = {"if-match": etag_of(await service.request(principal, "GET", path))}
    return await service.request(principal, "PUT", path, json=body, headers=headers)
