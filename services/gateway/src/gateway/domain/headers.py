"""Which headers pass the gateway, in each direction."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

Headers = Sequence[tuple[bytes, bytes]]

# Of one connection only (RFC 9110, 7.6.1), and what the gateway says itself.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"expect",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Who asks is in the token that the gateway mints, and nowhere else: no service may ever be tempted to read these.
IDENTITY = frozenset(
    {
        b"authorization",
        b"cookie",
        b"forwarded",
        b"from",
        b"host",
        b"kubeflow-userid",
        b"traceparent",
        b"via",
        b"x-api-key",
        b"x-client-ip",
        b"x-original-url",
        b"x-original-method",
        b"x-real-ip",
        b"x-request-id",
        b"x-rewrite-url",
    }
)
_PREFIXES = (
    b"x-forwarded-",
    b"x-auth-",
    b"x-remote-",
    b"x-user",
    b"x-project",
    b"x-role",
    b"x-subject",
    b"x-trainyard-",
)
# Said by the gateway for the whole suite.
OURS = frozenset({b"date", b"ratelimit", b"ratelimit-policy", b"server", b"x-request-id"})


def forwarded(headers: Headers, extra: Headers) -> list[tuple[bytes, bytes]]:
    """The headers of a client's request, as a service may see them. Its names are in small letters."""
    named = _named_by_connection(headers)
    return [pair for pair in headers if _goes_up(pair[0]) and pair[0] not in named] + [*extra]


def returned(headers: Headers, status: int) -> list[tuple[bytes, bytes]]:
    """The headers of a service's answer, as a client may see them. Its names are in small letters."""
    named = _named_by_connection(headers)
    if status in (204, 304):
        named |= {b"content-length"}  # of what is not sent
    return [pair for pair in headers if _comes_down(pair[0]) and pair[0] not in named]


# Clients and services use a handful of names.
@lru_cache(maxsize=512)
def _goes_up(name: bytes) -> bool:
    return name not in HOP_BY_HOP and name not in IDENTITY and not name.startswith(_PREFIXES) and b"_" not in name


@lru_cache(maxsize=512)
def _comes_down(name: bytes) -> bool:
    return name not in HOP_BY_HOP and name not in OURS


def announced_length(said: Mapping[bytes, bytes]) -> int | None:
    """What `Content-Length` says; None when it says nothing."""
    length = said.get(b"content-length")
    return None if length is None else int(length)


def has_body(said: Mapping[bytes, bytes]) -> bool:
    """Whether a request with these headers carries one."""
    return said.get(b"content-length", b"").strip(b"0") != b"" or b"transfer-encoding" in said


def value_of(headers: Headers, wanted: bytes) -> str:
    """The first value of a header, or an empty string."""
    for name, value in headers:
        if name == wanted:
            return text_of(value)
    return ""


def text_of(value: bytes) -> str:
    """A value as text, in which nothing of it is lost."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


_NONE: frozenset[bytes] = frozenset()


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    said = [pair[1] for pair in headers if pair[0] == b"connection"]
    return frozenset(token.strip().lower() for token in b",".join(said).split(b",")) if said else _NONE
