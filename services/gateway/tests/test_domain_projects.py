"""Rules about projects, members and the keys they may have."""

from datetime import UTC, datetime

import pytest

from gateway.domain.access import Scope
from gateway.domain.projects import (
    KeyTooStrong,
    LastAdmin,
    Member,
    Project,
    ProjectInUse,
    ProjectPermanent,
    keep_an_admin,
    keep_the_first,
    refuse_used,
    role_for,
    scopes_of,
)
from kit.roles import Caller, Role

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def members(**roles: Role) -> list[Member]:
    return [Member(subject, role, NOW) for subject, role in roles.items()]


@pytest.mark.parametrize(
    ("project", "role", "opens"),
    [
        (Project("blue", NOW), Role.VIEWER, True),
        (Project("blue-child", NOW, "blue"), Role.ADMIN, True),
        (Project("blue-child", NOW, "blue"), Role.EDITOR, False),
        (Project("green", NOW), Role.ADMIN, False),
        (Project("green-child", NOW, "green"), Role.ADMIN, False),
    ],
)
def test_a_project_is_open_to_its_own_and_to_admins_of_its_maker(project: Project, role: Role, opens: bool) -> None:
    assert project.is_open_to(Caller("blue", role, "ada", "gateway")) is opens


def test_a_key_has_all_scopes_of_its_role_unless_less_is_asked_for() -> None:
    assert scopes_of(Role.EDITOR, None) == [Scope.PREDICT, Scope.READ, Scope.WRITE]
    assert scopes_of(Role.EDITOR, [Scope.READ, Scope.PREDICT, Scope.READ]) == [Scope.PREDICT, Scope.READ]


def test_a_scope_without_use_is_refused_where_it_stands() -> None:
    with pytest.raises(KeyTooStrong) as refused:
        scopes_of(Role.VIEWER, [Scope.READ, Scope.WRITE])
    assert refused.value.errors[0]["pointer"] == "#/scopes/1"


def test_a_key_is_never_more_than_its_owner() -> None:
    assert role_for(Role.EDITOR, Role.EDITOR, "ada") is Role.EDITOR
    assert role_for(Role.ADMIN, Role.VIEWER, "ada") is Role.VIEWER
    with pytest.raises(KeyTooStrong) as refused:
        role_for(Role.EDITOR, Role.ADMIN, "ada")
    assert refused.value.errors[0]["pointer"] == "#/role"
    with pytest.raises(KeyTooStrong) as refused:
        role_for(None, Role.VIEWER, "eve")
    assert refused.value.errors[0]["pointer"] == "#/subject"


@pytest.mark.parametrize("role", [None, Role.VIEWER, Role.EDITOR])
def test_the_last_admin_stays(role: Role | None) -> None:
    with pytest.raises(LastAdmin):
        keep_an_admin(members(ada=Role.ADMIN, eve=Role.EDITOR), "ada", role)
    keep_an_admin(members(ada=Role.ADMIN, eve=Role.ADMIN), "ada", role)
    keep_an_admin(members(ada=Role.ADMIN, eve=Role.EDITOR), "eve", role)
    keep_an_admin(members(ada=Role.ADMIN), "ada", Role.ADMIN)
    keep_an_admin([], "ada", role)


def test_the_first_project_and_used_ones_stay() -> None:
    keep_the_first("blue")
    with pytest.raises(ProjectPermanent):
        keep_the_first("default")
    refuse_used("blue", [])
    with pytest.raises(ProjectInUse, match="datasets and models"):
        refuse_used("blue", ["datasets", "models"])
