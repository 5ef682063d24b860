"""What tests see of both stores behind their backs."""

import pytest

from kit.blobs import BlobStore
from kit.testing_objects import Objects

from .test_blob_store import put


@pytest.mark.parametrize("where", ["objects_url", "s3_url"])
async def test_objects_are_seen_read_damaged_and_removed(where: str, request: pytest.FixtureRequest) -> None:
    url: str = request.getfixturevalue(where)
    store, objects = BlobStore(url, "ingest"), Objects(url)
    key = store.key_of("blue", (await put(store, b"bytes")).digest)
    assert objects.keys() == objects.keys("blobs/") == [key]
    assert objects.keys("staging/") == []
    assert objects.read(key) == b"bytes"
    objects.damage(key)
    assert objects.read(key) == b"byter"
    objects.remove(key)
    assert objects.keys() == []
