"""Swagger UI from our own files: nothing of it is loaded from another machine."""

from importlib import resources

from starlette.types import Receive, Scope, Send

from kit import errors
from kit.bodies import answer, answer_problem
from kit.callers import PUBLIC
from kit.routes import RawRoute

TYPES = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js.LICENSE.txt": "text/plain; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon-32x32.png": "image/png",
    "LICENSE": "text/plain; charset=utf-8",
    "NOTICE": "text/plain; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
}
PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Trainyard API</title>
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
# Swagger UI sets styles by itself and draws its pictures from data: URLs. Scripts are ours alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
SAFELY = {"content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


class FileNotThere(errors.NotFound): ...


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    """The page at /docs."""
    headers = {"content-type": "text/html; charset=utf-8", "cache-control": "no-cache", **SAFELY}
    await answer(send, 200, PAGE, headers)


class Files:
    """The files of the page, read once."""

    def __init__(self) -> None:
        folder = resources.files("gateway") / "swagger"
        self._files = {name: (folder / name).read_bytes() for name in TYPES}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path_params"]["name"]
        if name not in self._files:
            await answer_problem(scope, send, FileNotThere("There is no such file."))
            return
        headers = {"content-type": TYPES[name], "cache-control": "public, max-age=3600", **SAFELY}
        await answer(send, 200, self._files[name], headers)


def routes() -> list[RawRoute]:
    get = frozenset({"GET"})
    return [RawRoute(get, "/docs", page, PUBLIC), RawRoute(get, "/docs/{name}", Files(), PUBLIC)]
