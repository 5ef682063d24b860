"""A snapshot of all keys as a document, so that it can outlive the process that read it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gateway.domain.access import Grant, Scope, Snapshot
from kit.roles import Role

FORM = 1


def document_of(snapshot: Snapshot, seen_at: datetime) -> dict[str, Any]:
    """`snapshot` as it was seen at `seen_at`, in JSON's terms."""
    return {
        "form": FORM,
        "seen_at": seen_at.isoformat(),
        "grants": [_row(grant) for grant in snapshot.grants.values()],
    }


def snapshot_of(document: Mapping[str, Any]) -> tuple[Snapshot, datetime]:
    """The way back.

    Raises:
        ValueError: it is no such document, or one of another release.
    """
    try:
        if document["form"] != FORM:
            raise ValueError("a snapshot of another form")
        grants = [_grant(row) for row in document["grants"]]
        seen_at = datetime.fromisoformat(document["seen_at"]).astimezone(UTC)
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError("not a snapshot of keys") from exc
    return Snapshot({grant.key_id: grant for grant in grants}), seen_at


def _row(grant: Grant) -> dict[str, Any]:
    return {
        "key_id": grant.key_id,
        "project": grant.project,
        "subject": grant.subject,
        "key_role": grant.key_role.value,
        "member_role": grant.member_role.value,
        "scopes": sorted(grant.scopes),
        "digest": grant.digest.hex(),
        "expires_at": None if grant.expires_at is None else grant.expires_at.isoformat(),
    }


def _grant(row: Mapping[str, Any]) -> Grant:
    expires_at = row["expires_at"]
    return Grant(
        key_id=row["key_id"],
        project=row["project"],
        subject=row["subject"],
        key_role=Role(row["key_role"]),
        member_role=Role(row["member_role"]),
        scopes=frozenset(map(Scope, row["scopes"])),
        digest=bytes.fromhex(row["digest"]),
        expires_at=None if expires_at is None else datetime.fromisoformat(expires_at),
    )
