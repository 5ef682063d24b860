"""What can go wrong, said without HTTP. Services subclass these; kit.problems renders them.

Error
├── Malformed             the request cannot be read at all
├── Unauthenticated       nobody we know is asking
├── Forbidden             the caller may not do this
├── NotFound              the thing asked for does not exist (or is another project's)
├── Conflict              the request is sound, but not in the present state of the thing
├── PreconditionFailed    the thing has changed since the caller looked
├── TooLarge              more bytes than this place takes
├── UnsupportedMedia      bytes of a kind that this place does not take
├── Invalid               the payload breaks a rule; `errors` names each place
├── PreconditionRequired  the caller must say which state it means to change
├── TooMany               too often, or too much at once
├── Corrupt               stored bytes are not what was stored
├── Unavailable           something needed is not answering; trying again may help
└── TimedOut              the time that the caller gave is over
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import TypedDict


class Place(TypedDict):
    """One mistake in a payload: a JSON pointer such as `#/features/0`, and what is wrong there."""

    pointer: str
    detail: str


class Error(Exception):
    """A failure that a caller is meant to understand."""

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[Place] = (),
        retry_after: timedelta | None = None,
        **extra: object,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)
        self.retry_after = retry_after
        self.extra = extra


class Malformed(Error): ...


class Unauthenticated(Error): ...


class Forbidden(Error): ...


class NotFound(Error): ...


class Conflict(Error): ...


class PreconditionFailed(Error): ...


class TooLarge(Error): ...


class UnsupportedMedia(Error): ...


class Invalid(Error): ...


class PreconditionRequired(Error): ...


class TooMany(Error): ...


class Corrupt(Error): ...


class Unavailable(Error): ...


class TimedOut(Error): ...
