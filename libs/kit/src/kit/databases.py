"""What a PostgreSQL server needs before services can migrate: one database; for each service a role, and its schema.

    KIT_ADMIN_DATABASE_URL=postgresql://postgres:…@host/postgres \\
    INGEST_DATABASE_URL=postgresql://ingest:…@host/trainyard TRAINER_DATABASE_URL=… \\
    python -m kit database prepare ingest trainer

Roles, passwords and the database are read from the addresses that the services themselves are given.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import URL

ADMIN = "KIT_ADMIN_DATABASE_URL"
RETRY = 0.5


class Refused(Exception):
    """It cannot be done, and what to change."""


@dataclass(frozen=True)
class Address:
    """Where one service finds its database."""

    service: str
    database: str
    role: str
    password: str


def plain(url: str) -> str:
    """An address of SQLAlchemy's for psycopg itself, which knows no drivers."""
    return url.replace("postgresql+psycopg:", "postgresql:", 1)


def with_driver(url: str) -> str:
    """An address as SQLAlchemy wants it, of any of the forms in use: `postgres:`, `postgresql:`, with a driver."""
    scheme, colon, rest = url.partition(":")
    return f"postgresql+psycopg:{rest}" if colon and scheme in ("postgres", "postgresql") else url


GUESSED = frozenset(
    ("postgres", "postgresql", "password", "passwd", "secret", "trainyard", "admin", "root", "user", "default")
) | {"example", "changeme", "change-me", "change_me", "qwerty", "letmein", "12345678", "123456789", "1234567890"}
"""Passwords that every attacker tries, and every example has."""


def checked(url: str) -> str:
    """The same address, if a service may start with it.

    Raises:
        ValueError: it is none of PostgreSQL's, or its password is one that anybody would guess. Without the address.
    """
    try:
        parsed = sa.make_url(with_driver(url))
    except (sa.exc.ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername != "postgresql+psycopg":
        raise ValueError("must be an address of PostgreSQL: postgresql://role:password@host/database")
    password = None if parsed.password is None else str(parsed.password).lower()
    # Without any password the server knows the role in another way: by a certificate, or a file.
    if password is not None and (password in GUESSED | {"", str(parsed.username).lower()}):
        raise ValueError("has a password that anybody would guess: give the role a random one")
    return url


def in_schema(url: str, schema: str) -> str:
    """The same address, where unqualified names are those of `schema`: several services share one role."""
    parsed = sa.make_url(url)
    given = parsed.query.get("options", ())
    options = " ".join([*((given,) if isinstance(given, str) else given), f"-csearch_path={schema}"])
    return parsed.update_query_dict({"options": options}).render_as_string(hide_password=False)


def addresses(environment: Mapping[str, str], services: Sequence[str]) -> list[Address]:
    """What the services are given.

    Raises:
        Refused: an address is missing, or lacks a role, a password or a database.
    """
    return [_address(environment, service) for service in services]


def _address(environment: Mapping[str, str], service: str) -> Address:
    name = f"{service.upper()}_DATABASE_URL"
    url = _parsed(environment, name)
    if not (url.database and url.username and url.password):
        raise Refused(f"{name} must name a role, a password and a database.")
    return Address(service, url.database, url.username, str(url.password))


def _parsed(environment: Mapping[str, str], name: str) -> URL:
    if not (text := environment.get(name, "")):
        raise Refused(f"{name} is not set.")
    try:
        return sa.make_url(with_driver(text))
    except sa.exc.ArgumentError:  # without the text: it holds a password
        raise Refused(f"{name} is no address of a database.") from None


def prepare_all(environment: Mapping[str, str], services: Sequence[str], *, within: float) -> list[str]:
    """Prepare all that the services' addresses name; says which databases. Waits so many seconds for the server.

    Raises:
        Refused: an address is not right.
        psycopg.Error: the server is away, or does not let the administrator do it.
    """
    admin = _parsed(environment, ADMIN)
    wanted: dict[str, dict[str, str]] = {}
    for it in addresses(environment, services):
        wanted.setdefault(it.database, {})[it.role] = it.password

    def url(database: str) -> str:
        return admin.set(database=database).render_as_string(hide_password=False)

    wait(url(admin.database or "postgres"), within=within)
    for database, passwords in wanted.items():
        prepare(url, database, passwords, maintenance=admin.database or "postgres")
    return list(wanted)


def wait(url: str, *, within: float) -> None:
    """Until the server answers, so many seconds at most.

    Raises:
        psycopg.OperationalError: it is still away, or refuses who asks.
    """
    until = time.monotonic() + within
    while True:
        try:
            psycopg.connect(plain(url), connect_timeout=2).close()
        except psycopg.OperationalError as exc:
            # A server that answers with a refusal will go on refusing.
            if time.monotonic() >= until or "authentication failed" in str(exc):
                raise
            time.sleep(RETRY)
        else:
            return


def prepare(
    url: Callable[[str], str], database: str, passwords: Mapping[str, str], *, maintenance: str = "postgres"
) -> None:
    """One database; for each service a role with its own password and schema, closed to the others. Repeatable.

    `url` is the administrator's, of the database that it is given: a superuser, or a role that may create roles and
    databases.
    """
    with psycopg.connect(plain(url(maintenance)), autocommit=True) as session:
        if session.execute("select 1 from pg_database where datname = %s", [database]).fetchone() is None:
            session.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
    with psycopg.connect(plain(url(database))) as session:
        # Two may do this at once: roles are the whole server's, so the lock is not of the database's name alone.
        session.execute("select pg_advisory_xact_lock(hashtext('prepare'))")
        name = sql.Identifier(database)
        session.execute(sql.SQL("revoke all on database {} from public").format(name))
        session.execute("revoke all on schema public from public")
        for role, password in passwords.items():
            _prepare_role(session, name, role, password)


def _prepare_role(session: psycopg.Connection, database: sql.Identifier, role: str, password: str) -> None:
    who = sql.Identifier(role)
    if session.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone() is None:
        session.execute(sql.SQL("create role {} login").format(who))
    session.execute(sql.SQL("alter role {} password {}").format(who, sql.Literal(password)))
    session.execute(sql.SQL("alter role {} set search_path = {}").format(who, who))
    # Who is no superuser may give a schema only to a role that it is a member of.
    if session.info.parameter_status("is_superuser") != "on":
        session.execute(sql.SQL("grant {} to current_user").format(who))
    session.execute(sql.SQL("create schema if not exists {} authorization {}").format(who, who))
    session.execute(sql.SQL("grant connect, temporary on database {} to {}").format(database, who))
