"""What neighbours answer, read with as little of it as is needed."""

from typing import TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from kit import errors

M = TypeVar("M", bound=BaseModel)


def read(model: type[M], answer: httpx2.Response) -> M:
    """
    Raises:
        errors.Corrupt: that is not what was asked for.
    """
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as exc:
        places = ", ".join(".".join(map(str, error["loc"])) or "all of it" for error in exc.errors()[:5])
        raise errors.Corrupt(f"{answer.request.url.host} answered what is not understood here: {places}.") from None


def etag_of(answer: httpx2.Response) -> str:
    """
    Raises:
        errors.Corrupt: there is none.
    """
    found = answer.headers.get("etag")
    if found is None:
        raise errors.Corrupt(f"{answer.request.url.host} answered without an ETag.")
    return str(found)
