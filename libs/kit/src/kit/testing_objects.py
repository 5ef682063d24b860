"""The objects of a store behind its back: what tests count, damage and look for, in a folder and in S3 alike."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore import store as stores


class Objects:
    """All that is kept at a URL, for whichever service."""

    def __init__(self, url: str) -> None:
        self._folder = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
        options = {} if self._folder is not None else {"client_options": {"allow_http": True}}
        self._store: stores.ObjectStore = stores.from_url(url, **options)  # type: ignore[call-overload]  # no overload for both

    def keys(self, prefix: str = "") -> list[str]:
        """Of everything there, also what dead writers left in a folder."""
        if self._folder is not None:
            found = (path for path in self._folder.rglob("*") if path.is_file())
            keys = [str(path.relative_to(self._folder)) for path in found]
        else:
            keys = [item["path"] for page in obstore.list(self._store) for item in page]
        return sorted(key for key in keys if key.startswith(prefix))

    def read(self, key: str) -> bytes:
        return bytes(obstore.get(self._store, key).bytes())

    def damage(self, key: str) -> None:
        """Flip a bit of the last byte."""
        data = self.read(key)
        self.remove(key)
        obstore.put(self._store, key, data[:-1] + bytes([data[-1] ^ 1]))

    def remove(self, key: str) -> None:
        obstore.delete(self._store, key)
