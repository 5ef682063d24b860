"""Ids: those that sort by time, and those that say nothing."""

import os
import uuid

from kit.ids import PIECES, random_id, uuid7


def test_ids_sort_by_the_time_they_were_made() -> None:
    made = [uuid7() for _ in range(100)]

    assert {(it.version, it.variant) for it in made} == {(7, uuid.RFC_4122)}
    assert [it.int >> 80 for it in made] == sorted(it.int >> 80 for it in made)


def test_a_child_gives_other_ids_than_its_parent() -> None:
    random_id()
    reads, writes = os.pipe()
    if not (child := os.fork()):
        os.write(writes, random_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reads, 100).decode() not in {random_id() for _ in range(PIECES)}
    os.close(reads)
    os.close(writes)


def test_random_ids_are_uuids() -> None:
    texts = [random_id() for _ in range(1000)]
    made = [uuid.UUID(text) for text in texts]

    assert len(set(texts)) == 1000
    assert [str(it) for it in made] == texts
    assert {(it.version, it.variant) for it in made} == {(4, uuid.RFC_4122)}
