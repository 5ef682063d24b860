"""Who may do what: projects, their members, and API keys."""

from collections.abc import Iterator, Sequence

from trainyard.results import Key, Member, Project
from trainyard.wire import Wire


class Keys:
    """API keys."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(
        self,
        name: str,
        *,
        role: str = "viewer",
        scopes: Sequence[str] | None = None,
        expires_in_days: int | None = None,
        subject: str | None = None,
        project: str | None = None,
    ) -> Key:
        """Make a key, of another project than one's own if that is said. It is shown in this answer alone."""
        asked = {
            "name": name,
            "role": role,
            "scopes": list(scopes) if scopes is not None else None,
            "expires_in_days": expires_in_days,
            "subject": subject,
            "project": project,
        }
        body = {field: value for field, value in asked.items() if value is not None}
        return Key.of(self._wire.request("POST", "/v1/keys", json=body).json())

    def list(self) -> Iterator[Key]:
        """All of the project, without their secrets."""
        return map(Key.of, self._wire.pages("/v1/keys"))

    def revoke(self, id: str) -> None:
        """It opens nothing any more, within seconds."""
        self._wire.delete(f"/v1/keys/{id}")


class Projects:
    """What keeps one team's things apart from another's."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(self, name: str) -> Project:
        """An empty project."""
        return Project.of(self._wire.request("POST", "/v1/projects", json={"name": name}).json())

    def list(self) -> Iterator[Project]:
        """Those that the caller is a member of."""
        return map(Project.of, self._wire.pages("/v1/projects"))

    def get(self, name: str) -> Project:
        """One by name."""
        return Project.of(self._wire.get(f"/v1/projects/{name}"))

    def delete(self, name: str) -> None:
        """Delete an empty project."""
        self._wire.delete(f"/v1/projects/{name}")

    def members(self, name: str) -> Iterator[Member]:
        """Who is in it, and with which role."""
        return map(Member.of, self._wire.pages(f"/v1/projects/{name}/members"))

    def put_member(self, name: str, subject: str, role: str) -> Member:
        """Add somebody, or change their role: viewer, editor or admin."""
        return Member.of(self._wire.put(f"/v1/projects/{name}/members/{subject}", {"role": role}))

    def delete_member(self, name: str, subject: str) -> None:
        """Remove somebody."""
        self._wire.delete(f"/v1/projects/{name}/members/{subject}")
