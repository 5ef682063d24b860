"""Who may pass, for what, and for how long we believe what we knew."""

import itertools
import json
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.access import (
    Grant,
    KeyNotAccepted,
    KeysNotCurrent,
    Scope,
    ScopeMissing,
    Snapshot,
    Trust,
    scopes_within,
)
from gateway.domain.keys import ApiKey
from gateway.domain.requests import Operation
from gateway.domain.snapshots import document_of, snapshot_of
from kit import errors
from kit.roles import Caller, Role

NOW = datetime(2026, 11, 25, tzinfo=UTC)
KEY = ApiKey("abcd1234", "s" * 32)
GRANT = Grant(
    key_id=KEY.id,
    project="blue",
    subject="ada",
    key_role=Role.ADMIN,
    member_role=Role.ADMIN,
    scopes=frozenset(Scope),
    digest=KEY.digest,
    expires_at=None,
)
SNAPSHOT = Snapshot({GRANT.key_id: GRANT})
TRUST = Trust()
FRESH = timedelta(seconds=1)
STALE = timedelta(minutes=10)
OLD = timedelta(minutes=16)


def admit(
    grant: Grant = GRANT, operation: Operation = Operation.READ, *, key: ApiKey = KEY, age: timedelta = FRESH
) -> Grant:
    return Snapshot({grant.key_id: grant}).admit(key, operation, now=NOW, age=age, trust=TRUST)


@pytest.mark.parametrize(
    ("scope", "operations"),
    [
        (Scope.PREDICT, {Operation.ORIENT, Operation.DESCRIBE, Operation.PREDICT}),
        (Scope.READ, {Operation.ORIENT, Operation.DESCRIBE, Operation.READ}),
        (Scope.WRITE, {Operation.ORIENT, Operation.DESCRIBE, Operation.READ, Operation.WRITE}),
        (Scope.ADMIN, set(Operation)),
    ],
)
def test_a_scope_lets_its_key_do_this_and_no_more(scope: Scope, operations: Collection[Operation]) -> None:
    grant = replace(GRANT, scopes=frozenset({scope}))

    for operation in Operation:
        if operation in operations:
            assert admit(grant, operation) == grant
        else:
            with pytest.raises(ScopeMissing, match=scope.value):
                admit(grant, operation)


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("age", [FRESH, STALE, OLD])
def test_without_a_database_only_predictions_go_on_and_not_for_ever(operation: Operation, age: timedelta) -> None:
    believed = {FRESH: set(Operation), STALE: {Operation.ORIENT, Operation.PREDICT, Operation.DESCRIBE}, OLD: set()}

    if operation in believed[age]:
        assert admit(operation=operation, age=age) == GRANT
    else:
        with pytest.raises(KeysNotCurrent) as refused:
            admit(operation=operation, age=age)
        assert refused.value.retry_after == timedelta(seconds=1)


def test_a_key_that_is_not_known_is_refused_and_not_now_when_we_could_not_know_it() -> None:
    with pytest.raises(KeyNotAccepted):
        admit(key=ApiKey("unknown0", "s" * 32))
    with pytest.raises(KeysNotCurrent):
        admit(operation=Operation.PREDICT, key=ApiKey("unknown0", "s" * 32), age=STALE)


def test_the_id_alone_opens_nothing() -> None:
    with pytest.raises(KeyNotAccepted):
        admit(key=ApiKey(KEY.id, "t" * 32))


def test_a_key_ends_when_it_was_said_to() -> None:
    assert admit(replace(GRANT, expires_at=NOW + timedelta(seconds=1)))
    with pytest.raises(KeyNotAccepted, match="expired"):
        admit(replace(GRANT, expires_at=NOW))


@pytest.mark.parametrize(("key_role", "member_role", "scope"), list(itertools.product(Role, Role, Scope)))
def test_the_least_of_key_member_and_scopes_is_the_role(key_role: Role, member_role: Role, scope: Scope) -> None:
    ceiling = {Scope.PREDICT: Role.VIEWER, Scope.READ: Role.VIEWER, Scope.WRITE: Role.EDITOR, Scope.ADMIN: Role.ADMIN}
    grant = replace(GRANT, key_role=key_role, member_role=member_role, scopes=frozenset({scope}))

    assert all(bound.at_least(grant.role) for bound in (key_role, member_role, ceiling[scope]))
    assert grant.role in (key_role, member_role, ceiling[scope])
    assert grant.caller == Caller("blue", grant.role, "ada", "gateway")


def test_the_strongest_scope_counts() -> None:
    grant = replace(GRANT, scopes=frozenset({Scope.READ, Scope.WRITE}))

    assert grant.role is Role.EDITOR


def test_a_role_has_the_scopes_that_it_can_use() -> None:
    assert scopes_within(Role.VIEWER) == [Scope.PREDICT, Scope.READ]
    assert scopes_within(Role.EDITOR) == [Scope.PREDICT, Scope.READ, Scope.WRITE]
    assert scopes_within(Role.ADMIN) == list(Scope)


def test_refusals_are_of_these_kinds() -> None:
    assert issubclass(KeyNotAccepted, errors.Unauthenticated)
    assert issubclass(ScopeMissing, errors.Forbidden)
    assert issubclass(KeysNotCurrent, errors.Unavailable)


def test_a_snapshot_survives_being_written_down() -> None:
    other = replace(GRANT, key_id="other000", scopes=frozenset({Scope.READ}), expires_at=NOW)
    snapshot = Snapshot({GRANT.key_id: GRANT, "other000": other})
    document = json.loads(json.dumps(document_of(snapshot, NOW)))

    assert snapshot_of(document) == (snapshot, NOW)
    assert KEY.secret not in json.dumps(document)


@pytest.mark.parametrize(
    "change",
    [
        {"form": 2},
        {"grants": [{}]},
        {"grants": None},
        {"grants": [1]},
        {"seen_at": 5},
        {"seen_at": "yesterday"},
        {"seen_at": None},
    ],
)
def test_what_is_no_snapshot_is_not_believed(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        snapshot_of({**document_of(SNAPSHOT, NOW), **change})
    with pytest.raises(ValueError):
        snapshot_of([])  # type: ignore[arg-type]  # of a file that holds something else
