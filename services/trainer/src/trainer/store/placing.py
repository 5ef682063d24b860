"""On which hosts an attempt may be worked on, as conditions of a statement over attempts and their jobs."""

import sqlalchemy as sa

from trainer.domain.jobs import Reason
from trainer.store.tables import attempts, jobs


def fits(host: str, *, one_node: bool) -> sa.ColumnElement[bool]:
    """Whether the host may have the attempt. `one_node`: it cannot work on one with others."""
    return sa.and_(~_excludes(host), _nodes() <= 1) if one_node else ~_excludes(host)


def _excludes(host: str) -> sa.ColumnElement[bool]:
    """Whether an earlier attempt of the job has said that it is not to be tried on this host again."""
    earlier = attempts.alias()
    of = sa.and_(earlier.c.project == attempts.c.project, earlier.c.job_id == attempts.c.job_id)
    return sa.exists().where(of, earlier.c.host == host, earlier.c.reason == Reason.NODE_EXCLUDED)


def _nodes() -> sa.ColumnElement[int]:
    """How many nodes the job needs at least."""
    nodes = jobs.c.spec["bundle"]["nodes"]
    kind = sa.func.jsonb_typeof(nodes)
    return sa.case((kind == "object", nodes["min"].as_integer()), (kind == "number", nodes.as_integer()), else_=1)
