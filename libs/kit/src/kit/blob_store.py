"""Immutable bytes in S3 or in a folder, named by their digest.

Bytes arrive at `staging/<service>/<uuid>` and are hashed on the way; they are copied, if nothing is there yet, to
`blobs/<service>/<project>/sha256/<aa>/<digest>`, and the copy is read back before anybody may name it (kit.blob_rows).
Only operations that S3 and a folder both have are used; what only one has is in kit.s3, and below under `_root`.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx2
import obstore
from obstore import store as stores
from obstore.exceptions import AlreadyExistsError, BaseError

from kit import errors, s3
from kit.metrics import AWAY

log = logging.getLogger(__name__)
CHUNK = 1 << 20
# Parts of a multipart upload: what a cut costs to send again, and, times the parts under way, what a writer holds.
PART = 5 << 20
PARTS_AT_ONCE = 3
PATIENCE = timedelta(seconds=60)
"""With a store that says nothing. A part, and the answer to a copy of gigabytes, must get through in that time."""
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_PROJECT = re.compile(r"[a-z0-9](?!.*\.\.)[a-z0-9._-]{0,62}")
# What obstore's local store leaves beside a name when the process dies in a write; its own listing hides these.
_LEFTOVER = re.compile(r".+#\d+")
_RETRY = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
# By what is in the words of the failure, of which obstore makes different errors in different places.
_HINTS = {
    "NoSuchBucket": "There is no such bucket: see the service's OBJECTS_URL, and AWS_ENDPOINT.",
    "403 Forbidden": "It refuses: see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy.",
    "error sending request": "It cannot be reached: see AWS_ENDPOINT.",
    "No space left": "The disk of the service's OBJECTS_URL is full.",
}


class BytesMissing(errors.Corrupt): ...


@dataclass(frozen=True)
class Staged:
    """Bytes that have arrived whole, but have no name yet."""

    key: str
    digest: str
    size: int


@dataclass(frozen=True)
class Blob:
    """Bytes under their own digest, read back after they were put there."""

    digest: str
    size: int
    verified_at: float = field(default_factory=time.monotonic, compare=False)
    """On this process's own clock: a row may be made only soon after (see kit.blob_rows)."""


@dataclass(frozen=True)
class Found:
    """An object as the listing shows it. `project` and `digest` are None where its name is not of our making."""

    key: str
    size: int
    modified: datetime
    project: str | None = None
    digest: str | None = None


class BlobStore:
    """The objects of one service. `url` is `s3://bucket` (AWS_* in the environment say where) or `file:///folder`."""

    def __init__(
        self, url: str, service: str, *, public_url: str | None = None, patience: timedelta = PATIENCE
    ) -> None:
        """`public_url`: the address of the same bucket where users reach it, if they do.

        Raises:
            ValueError: nobody can sign for that address.
        """
        self.service = service
        self._patience = patience
        self._root: Path | None = None
        self._bucket: s3.Bucket | None = None
        self.largest = 1 << 62
        """Bytes of an object."""
        self._store: stores.ObjectStore
        if url.startswith("file:"):
            self._root = Path(unquote(urlsplit(url).path))
            self._store = stores.LocalStore(self._root, mkdir=True)
        else:
            self._store = stores.S3Store.from_url(
                url,
                copy_if_not_exists="multipart",
                # No limit of the whole: it would cut those off who read slowly.
                client_options={
                    "connect_timeout": "2s",
                    "read_timeout": patience,
                    "timeout": "30d",
                    "allow_http": True,
                },
                retry_config=_RETRY,  # type: ignore[arg-type] # a TypedDict whose other fields have defaults
            )
            self._bucket = s3.bucket_of(url, os.environ)
            self.largest = s3.LARGEST
        self._public = None if public_url is None else s3.bucket_of(url, os.environ, address=public_url)
        if public_url is not None and (self._public is None or self._root is not None):
            raise ValueError(
                "OBJECTS_PUBLIC_URL goes with an OBJECTS_URL of s3:// and with AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY: without them no URL can be signed."
            )

    async def stage(self, chunks: AsyncIterable[bytes], limit: int) -> Staged:
        """Take in a stream of at most `limit` bytes. What is cut off or too large leaves nothing behind.

        Raises:
            errors.TooLarge: more than `limit` bytes came.
        """
        key = f"staging/{self.service}/{uuid.uuid4()}"
        digest, size, limit = hashlib.sha256(), 0, min(limit, self.largest)
        with _answering():
            async with obstore.open_writer_async(
                self._store, key, buffer_size=PART, max_concurrency=PARTS_AT_ONCE
            ) as writer:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise errors.TooLarge(f"At most {limit} bytes are taken here.")
                    digest.update(chunk)
                    await writer.write(chunk)
            if size == 0:
                # A writer makes its object with the first byte.
                await obstore.put_async(self._store, key, b"")
            if self._root is not None:
                await asyncio.to_thread(_sync, self._root / key)
        return Staged(key, f"sha256:{digest.hexdigest()}", size)

    async def publish(self, project: str, staged: Staged) -> Blob:
        """Give staged bytes their name, unless they are there already, and read the copy back.

        A copy that was damaged since is repaired: equal names have equal bytes.
        """
        key = self.key_of(project, staged.digest)
        with _answering():
            await self._copy_new(staged.key, key)
            if await self._copied_digest(key) != staged.digest:
                await obstore.copy_async(self._store, staged.key, key, overwrite=True)
                if await self._copied_digest(key) != staged.digest:
                    raise errors.Corrupt("The object store does not give back the bytes it was given.")
            if self._root is not None:
                await asyncio.to_thread(_sync_folders, self._root, self._root / key)
        verified_at = time.monotonic()
        await self.discard(staged)
        return Blob(staged.digest, staged.size, verified_at)

    async def discard(self, staged: Staged) -> None:
        """Forget staged bytes. Collection does so too, later."""
        await self._remove(staged.key)

    async def check(self, project: str, digest: str) -> int:
        """Read all of it once, so that a damaged blob is a problem document and not a cut answer. Says its size.

        Raises:
            errors.Corrupt: the bytes are not those of the digest, or are gone.
        """
        size = 0
        async for chunk in self.stream(project, digest):
            size += len(chunk)
        return size

    async def size_of(self, project: str, digest: str) -> int | None:
        """How many bytes are under this name, without reading them; None where there is nothing."""
        with _answering():
            try:
                return (await obstore.head_async(self._store, self.key_of(project, digest)))["size"]
            except FileNotFoundError:
                return None

    async def stream(self, project: str, digest: str) -> AsyncIterator[bytes]:
        """The bytes, piece by piece. The last piece is held back until the digest of all is known to be right.

        Raises:
            errors.Corrupt: the bytes are not those of the digest, or are gone.
        """
        found, held = hashlib.sha256(), b""
        async for chunk in self._chunks(self.key_of(project, digest)):
            found.update(chunk)
            if held:
                yield held
            held = chunk
        if f"sha256:{found.hexdigest()}" != digest:
            raise errors.Corrupt(f"The stored bytes of {digest} are not what was stored.")
        yield held

    async def part(self, project: str, digest: str, start: int, length: int) -> AsyncIterator[bytes]:
        """So many bytes from `start` on. What is verified is how many there are: bytes of a part have no digest.

        Whoever needs more calls `check` before, or puts the parts together and looks at the digest of all.

        Raises:
            errors.Corrupt: the bytes end earlier, or are gone.
        """
        left = length
        async for chunk in self._chunks(self.key_of(project, digest), (start, start + length)):
            left -= len(chunk)
            yield chunk
        if left:
            raise errors.Corrupt(f"The stored bytes of {digest} are not what was stored.")

    async def read(self, project: str, digest: str) -> bytes:
        """All the bytes at once, verified: for small ones."""
        return b"".join([chunk async for chunk in self.stream(project, digest)])

    async def fetch(self, project: str, digest: str, path: Path) -> int:
        """Write the bytes to a new file, verified. A damaged blob leaves no file. Says the size."""
        size = 0
        file = await asyncio.to_thread(path.open, "xb")
        try:
            with file:
                async for chunk in self.stream(project, digest):
                    size += await asyncio.to_thread(file.write, chunk)
        except BaseException:
            path.unlink(missing_ok=True)  # noqa: ASYNC240 - also while being cancelled, where nothing can be awaited
            raise
        return size

    def public_url(
        self, project: str, digest: str, disposition: str, media_type: str, lifetime: timedelta
    ) -> str | None:
        """A URL that S3 answers to anybody, for so long. None where users cannot reach it."""
        key = self.key_of(project, digest)
        shown = {"response-content-disposition": disposition, "response-content-type": media_type}
        if self._public is None:
            return None
        return self._public.signed("GET", key, expires=lifetime, query=shown, now=datetime.now(UTC))

    async def delete(self, project: str, digest: str) -> None:
        """Delete the object. Only the collection does so: it knows that no row names it."""
        await self._remove(self.key_of(project, digest))

    def key_of(self, project: str, digest: str) -> str:
        found = _DIGEST.fullmatch(digest)
        if found is None or not _PROJECT.fullmatch(project):
            raise ValueError("not a digest, or not a project")
        return f"blobs/{self.service}/{project}/sha256/{found[1][:2]}/{found[1]}"

    async def blobs(self) -> AsyncIterator[list[Found]]:
        """All objects under this service's own prefix, page by page."""
        async for page in self._list(f"blobs/{self.service}/"):
            yield [self._named(found) for found in page]

    async def remove_stale(self, older_than: datetime) -> int:
        """Remove staged objects, and what dead writers left, that are older than that. Says how many."""
        removed = 0
        async for page in self._list(f"staging/{self.service}/"):
            for found in page:
                if found.modified < older_than:
                    await self._remove(found.key)
                    removed += 1
        if self._root is not None:
            removed += await asyncio.to_thread(_remove_leftovers, self._root, self.service, older_than.timestamp())
        if self._bucket is not None:
            removed += await self._give_up_uploads(self._bucket, older_than)
        return removed

    async def _give_up_uploads(self, bucket: s3.Bucket, older_than: datetime) -> int:
        given_up = 0
        with _answering():
            async with httpx2.AsyncClient(timeout=self._patience.total_seconds()) as client:
                # Also copies are such uploads, to the place that they are for.
                for prefix in (f"staging/{self.service}/", f"blobs/{self.service}/"):
                    async for upload in bucket.uploads(client, prefix):
                        if upload.begun < older_than:
                            await bucket.give_up(client, upload)
                            given_up += 1
        return given_up

    def _named(self, found: Found) -> Found:
        project, *rest = found.key.removeprefix(f"blobs/{self.service}/").split("/")
        digest = f"sha256:{rest[-1]}" if rest else ""
        if _PROJECT.fullmatch(project) and _DIGEST.fullmatch(digest) and found.key == self.key_of(project, digest):
            return Found(found.key, found.size, found.modified, project, digest)
        return found

    async def _list(self, prefix: str) -> AsyncIterator[list[Found]]:
        with _answering():
            async for page in obstore.list(self._store, prefix=prefix):
                yield [Found(item["path"], item["size"], item["last_modified"]) for item in page]

    async def _chunks(self, key: str, span: tuple[int, int] | None = None) -> AsyncIterator[bytes]:
        with _answering():
            result = await self._get(key, span)
            start, end = result.range
            stream, left = aiter(result.stream(min_chunk_size=CHUNK)), end - start
            while left > 0 and (chunk := bytes(await anext(stream, b""))):
                left -= len(chunk)
                yield chunk

    async def _get(self, key: str, span: tuple[int, int] | None) -> "obstore.GetResult":
        try:
            return await obstore.get_async(self._store, key, options={} if span is None else {"range": span})
        except FileNotFoundError as exc:
            if "NoSuchBucket" in str(exc):
                raise
            raise BytesMissing("Stored bytes are missing.") from None

    async def _copied_digest(self, key: str) -> str:
        try:
            return await self._digest_of(key)
        except BytesMissing:
            raise errors.Unavailable("The same bytes are just being collected; send them again later.") from None

    async def _digest_of(self, key: str) -> str:
        found = hashlib.sha256()
        async for chunk in self._chunks(key):
            found.update(chunk)
        return f"sha256:{found.hexdigest()}"

    async def _copy_new(self, source: str, target: str) -> None:
        with contextlib.suppress(AlreadyExistsError):
            await obstore.copy_async(self._store, source, target, overwrite=False)

    async def _remove(self, key: str) -> None:
        with _answering(), contextlib.suppress(FileNotFoundError):
            await obstore.delete_async(self._store, key)


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    # Everything but "there already" and "not there", which are caught where they can happen.
    try:
        yield
    except (BaseError, OSError, httpx2.HTTPError) as exc:
        AWAY.labels("objects").inc()
        log.warning("the object store failed", extra={"error": str(exc)[:500]})
        raise errors.Unavailable("The object store is not answering.", **_hint_of(exc)) from exc


def _hint_of(exc: Exception) -> dict[str, Any]:
    return next(({"hint": hint} for words, hint in _HINTS.items() if words in str(exc)), {})


def _sync(path: Path) -> None:
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sync_folders(root: Path, path: Path) -> None:
    # Each folder on the way may be new, and a new folder is known only to the one above it.
    for folder in path.parents:
        _sync(folder)
        if folder == root:
            break


def _remove_leftovers(root: Path, service: str, older_than: float) -> int:
    removed = 0
    for below in (root / "blobs" / service, root / "staging" / service):
        for path in below.rglob("*#*"):
            # A writer that is alive may be just renaming it.
            with contextlib.suppress(FileNotFoundError):
                if _LEFTOVER.fullmatch(path.name) and path.stat().st_mtime < older_than:
                    path.unlink()
                    removed += 1
    return removed
