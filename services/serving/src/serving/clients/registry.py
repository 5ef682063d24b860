"""What serving asks of the registry: what references mean, the files of versions, and holds on them."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from kit import errors
from kit.callers import Role
from kit.clients import Principal, ServiceClient
from kit.events import Feed
from serving.domain.deployments import Reference

NOUN = "model-version"
SUBJECT = "service:serving"


class AnswerNotUnderstood(errors.Unavailable): ...


class FileFound(BaseModel):
    format: str
    path: str
    digest: str
    size: int
    origin: str | None = None


class VersionFound(BaseModel):
    """Of a model version, what serving reads."""

    model: str
    version: int
    digest: str
    formats: list[FileFound]
    signature: dict[str, Any]
    input_example: list[dict[str, Any]] | None = None
    parameters: dict[str, Any] | None = None
    attestations: list[dict[str, Any]] | None = None


class Registry:
    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    async def version(self, project: str, reference: Reference) -> dict[str, Any]:
        """The model version that a reference means now, as the registry describes it.

        Raises:
            errors.NotFound: it means none.
            errors.Unavailable: the registry cannot say just now.
        """
        path = f"/v1/models/{quote(reference.model)}/versions/{quote(reference.version)}"
        response = await self._client.request(_principal(project), "GET", path)
        try:
            return VersionFound.model_validate_json(response.content).model_dump(exclude_unset=True)
        except ValidationError:
            raise AnswerNotUnderstood("The registry describes a model version in a way that is not known.") from None

    def file(
        self, project: str, model: str, version: int, path: str
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of one file of a version, as they come. Who reads them verifies them."""
        url = f"/v1/models/{quote(model)}/versions/{version}/files/{quote(path, safe='')}"
        return self._client.stream(_principal(project), url)

    async def hold(self, project: str, ref: str, holder: str) -> None:
        """
        Raises:
            errors.NotFound: the version is gone.
        """
        await self._client.hold(_principal(project), NOUN, ref, holder)

    async def release(self, project: str, ref: str, holder: str) -> None:
        await self._client.release(_principal(project), NOUN, ref, holder)

    async def events(self, after: str) -> Feed:
        """What happened there behind a cursor."""
        return await self._client.events(after)


def _principal(project: str) -> Principal:
    return Principal(project, Role.VIEWER, SUBJECT)
