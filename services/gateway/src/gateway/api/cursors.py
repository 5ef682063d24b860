"""Places in a list that is ordered by time: `2026-11-25T01:02:03.000004+00:00 <id>`."""

from datetime import datetime

from kit.paging import PageTokenInvalid


def text_of(at: datetime, identity: str) -> str:
    return f"{at.isoformat()} {identity}"


def place_of(text: str | None) -> tuple[datetime, str] | None:
    """The way back of `text_of`.

    Raises:
        PageTokenInvalid: no list gave this.
    """
    if text is None:
        return None
    moment, _, identity = text.partition(" ")
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        detail = "is not a token that this list gave"
        raise PageTokenInvalid(
            "Begin again without a page token.", errors=[{"pointer": "?page_token", "detail": detail}]
        )
    return at, identity
