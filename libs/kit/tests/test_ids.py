"""Ids: those that sort by time, and those that say nothing."""

import subprocess
import sys
import uuid

from kit.ids import random_id, uuid7


def test_ids_sort_by_the_time_they_were_made() -> None:
    made = [uuid7() for _ in range(100)]

    assert {(it.version, it.variant) for it in made} == {(7, uuid.RFC_4122)}
    assert [it.int >> 80 for it in made] == sorted(it.int >> 80 for it in made)


FORKS = """
import os
from kit.ids import random_id

print(random_id(), flush=True)
if child := os.fork():
    os.waitpid(child, 0)
print(random_id(), flush=True)
"""


def test_a_child_gives_other_ids_than_its_parent() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=True)
    assert len(set(done.stdout.split())) == 3


def test_random_ids_are_uuids() -> None:
    texts = [random_id() for _ in range(1000)]
    made = [uuid.UUID(text) for text in texts]

    assert len(set(texts)) == 1000
    assert [str(it) for it in made] == texts
    assert {(it.version, it.variant) for it in made} == {(4, uuid.RFC_4122)}
