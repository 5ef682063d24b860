"""JSON in files of models: read only when it cannot become many times larger in memory."""

import json
from collections.abc import Callable
from typing import Any

from registry.domain.findings import Wrong

LONGEST = 32 << 20
MOST_PARTS = 2_000_000
"""Members and items: each takes some 80 bytes of memory, however short it is written."""

Pairs = Callable[[list[tuple[str, Any]]], dict[str, Any]]


def document_of(raw: bytes, what: str, pairs: Pairs | None = None, *, most: int = MOST_PARTS) -> Any:
    """`what` it is, such as "its header", and what makes objects of members.

    Raises:
        Wrong: it is no JSON, or too much of it.
    """
    if sum(raw.count(sign) for sign in (b",", b"[", b"{")) > most:
        raise Wrong(f"{what} has more than {most} parts")
    try:
        return json.loads(raw, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as exc:
        raise Wrong(f"{what} is no JSON: {str(exc)[:100]}") from None
