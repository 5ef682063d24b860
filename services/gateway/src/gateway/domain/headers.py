"""Which headers pass the gateway, in each direction."""

from collections.abc import Iterable, Sequence

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


def forwarded(headers: Headers, extra: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers of a client's request, as a service may see them."""
    dropped = HOP_BY_HOP | IDENTITY | _named_by_connection(headers)
    kept = [
        (_text(name), _text(value))
        for name, value in headers
        if name not in dropped and not name.startswith(_PREFIXES) and b"_" not in name
    ]
    return [*kept, *extra]


def returned(headers: Headers, status: int) -> list[tuple[bytes, bytes]]:
    """The headers of a service's answer, as a client may see them."""
    lowered = [(name.lower(), value) for name, value in headers]
    dropped = HOP_BY_HOP | OURS | _named_by_connection(lowered)
    if status in (204, 304):
        dropped |= {b"content-length"}  # of what is not sent
    return [(name, value) for name, value in lowered if name not in dropped]


def announced_length(headers: Headers) -> int | None:
    """What `Content-Length` says; None when it says nothing."""
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return None


def has_body(headers: Headers) -> bool:
    """Whether a request with these headers carries one."""
    return any(
        (name == b"content-length" and value.strip(b"0") != b"") or name == b"transfer-encoding"
        for name, value in headers
    )


def value_of(headers: Headers, wanted: bytes) -> str:
    """The first value of a header, or an empty string."""
    return next((_text(value) for name, value in headers if name == wanted), "")


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    values = b",".join(value for name, value in headers if name == b"connection")
    return frozenset(token.strip().lower() for token in values.split(b","))


def _text(value: bytes) -> str:
    # The way back of what the HTTP client does with headers.
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
