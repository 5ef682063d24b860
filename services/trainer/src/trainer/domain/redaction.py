"""How secrets are kept out of what is written down. It imports little: every program's warden does."""

import base64
import json
from collections.abc import Iterable
from urllib.parse import quote

SHORTEST = 8
"""Characters of a value. What is shorter is guessed, and could not be kept out of a log without ruining it."""
HIDDEN = "•••"


class Redactor:
    """Keeps values out of text: as they are, line by line, and as programs commonly write them."""

    def __init__(self, values: Iterable[str]) -> None:
        found = {form for value in values for line in _parts(value) for form in _forms(line)}
        self._hidden = sorted(found, key=len, reverse=True)  # what holds another goes first

    def redact(self, text: str) -> str:
        """The text without them."""
        for hidden in self._hidden:
            text = text.replace(hidden, HIDDEN)
        return text


NOTHING_HIDDEN = Redactor(())


def _parts(value: str) -> set[str]:
    lines = {line.strip() for line in value.splitlines()}
    return {value} | {line for line in (value.strip(), *lines) if len(line) >= SHORTEST}


def _forms(text: str) -> set[str]:
    plain = text.encode()
    encoded = {base64.b64encode(plain).decode(), base64.urlsafe_b64encode(plain).decode()}
    written = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1]}
    return written | {quote(text, safe=""), plain.hex()} | {each.rstrip("=") for each in encoded}
