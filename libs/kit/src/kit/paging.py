"""Lists in pages by key: `page_size`, `page_token` → `next_page_token`.

A token holds the key of the last item that was given, so that a page never moves when something is put in before it.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Query

from kit import errors

T = TypeVar("T")
USUAL, LARGEST = 100, 1000
_LONGEST = 512


class PageTokenInvalid(errors.Invalid): ...


@dataclass(frozen=True)
class PageAsked:
    """What a caller wants to see of a list."""

    size: int
    after: str | None
    """The key of the last item that the caller has."""

    @property
    def limit(self) -> int:
        """How many to read: one more than are shown tells whether there are more."""
        return self.size + 1


async def _page(
    page_size: Annotated[int, Query(ge=1, le=LARGEST)] = USUAL,
    page_token: Annotated[str | None, Query(max_length=_LONGEST)] = None,
) -> PageAsked:
    return PageAsked(page_size, None if page_token is None else _key_of(page_token))


PageDep = Annotated[PageAsked, Depends(_page)]


def page_of(found: Sequence[T], page: PageAsked, *, key: Callable[[T], str]) -> tuple[list[T], str | None]:
    """What to show of `found`, which was read with `page.limit`, and the token of the next page if there is one."""
    items = list(found[: page.size])
    more = len(found) > page.size
    return items, _token_of(key(items[-1])) if more else None


def number_of(after: str | None) -> int | None:
    """The key of a list that is ordered by a number.

    Raises:
        PageTokenInvalid: it is none.
    """
    if after is None:
        return None
    if not (after.isascii() and after.isdigit() and len(after) <= 18):
        raise _invalid()
    return int(after)


def _token_of(key: str) -> str:
    return base64.urlsafe_b64encode(f"1{key}".encode()).decode().rstrip("=")


def _key_of(token: str) -> str:
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise _invalid() from None
    if not raw.startswith("1") or "\0" in raw:
        raise _invalid()
    return raw[1:]


def _invalid() -> PageTokenInvalid:
    detail = "is not a token that this list gave"
    return PageTokenInvalid("Begin again without a page token.", errors=[{"pointer": "?page_token", "detail": detail}])
