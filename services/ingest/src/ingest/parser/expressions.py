"""SQL expressions of users: one expression, over the columns, and the same answer every time."""

import json
from collections.abc import Iterator

import duckdb

from ingest.domain.reports import Refused
from ingest.domain.schema import Column
from ingest.domain.settings import DatasetSettings, Expression

_NOT_PLAIN = {"SUBQUERY", "WINDOW", "STAR", "LAMBDA", "PARAMETER", "POSITIONAL_REFERENCE", "DEFAULT"}


def check_expressions(
    session: duckdb.DuckDBPyConnection, settings: DatasetSettings, columns: list[Column], relation: str
) -> None:
    """Refuse what is not an expression over the columns alone.

    Raises:
        Refused: the message says which and why.
    """
    expressions = [check.sql for check in settings.checks if isinstance(check, Expression)]
    if not expressions:
        return
    names = {column.name.lower() for column in columns}
    allowed = {
        name
        for (name,) in session.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() "
            "WHERE function_type = 'scalar' AND stability = 'CONSISTENT' "
            # These are not what they claim: they read the clock. And some are the engine's own.
            "AND function_name NOT LIKE 'current%' AND function_name NOT LIKE '\\_\\_%' ESCAPE '\\'"
        ).fetchall()
    }
    for sql in expressions:
        for node in _nodes(_parsed(session, sql)):
            _check_node(node, sql, names, allowed)
        try:
            session.execute(f"SELECT ({sql}) IS FALSE FROM {relation} LIMIT 0")
        except duckdb.Error as exc:
            raise _bad(sql, str(exc).splitlines()[0]) from None


def _parsed(session: duckdb.DuckDBPyConnection, sql: str) -> object:
    # In its own brackets, so that it cannot end them and go on with something else.
    [(text,)] = session.execute("SELECT json_serialize_sql(?)", [f"SELECT {sql}"]).fetchall()
    document = json.loads(text)
    if document["error"]:
        raise _bad(sql, str(document["error_message"]))
    statements = document["statements"]
    node = statements[0]["node"]
    plain = node.get("from_table", {}).get("type") == "EMPTY" and not node.get("where_clause")
    if len(statements) != 1 or len(node.get("select_list", ())) != 1 or not plain:
        raise _bad(sql, "it is not one expression")
    return node["select_list"][0]


def _nodes(value: object) -> Iterator[dict[str, object]]:
    if isinstance(value, dict):
        if "class" in value:
            yield value
        for member in value.values():
            yield from _nodes(member)
    elif isinstance(value, list):
        for item in value:
            yield from _nodes(item)


def _check_node(node: dict[str, object], sql: str, names: set[str], allowed: set[str]) -> None:
    match node:
        case {"class": kind} if kind in _NOT_PLAIN:
            raise _bad(sql, f"{str(kind).lower()} is not taken")
        case {"class": "FUNCTION", "function_name": name} if name not in allowed:
            raise _bad(sql, f"the function {str(name)[:60]!r} is not taken")
        case {"class": "COLUMN_REF", "column_names": [name]} if str(name).lower() not in names:
            raise _bad(sql, f"there is no column {str(name)[:60]!r}")
        case {"class": "COLUMN_REF", "column_names": [_, _, *_]}:
            raise _bad(sql, "columns are named by their names alone")


def _bad(sql: str, why: str) -> Refused:
    return Refused("bad-check", f"The expression {sql[:100]!r} cannot be used: {why[:200]}.")
