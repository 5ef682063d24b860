"""What a restored database has to be told, since its server counts transactions anew.

An event carries the number of the transaction that wrote it, a cursor the number of the event that was read last, and
nobody sees an event before all transactions of lower numbers are over (kit.events). On a new server the numbers of the
old one are those of a far future: what was written before would not be seen, and what is written now be skipped.
"""

import sqlalchemy as sa

from kit.tables import event_cursors, events

_FUTURE = sa.text("(pg_snapshot_xmax(pg_current_snapshot())::text)::bigint").columns(sa.column("xid", sa.BigInteger))


def rebase(connection: sa.Connection) -> int:
    """Put restored events into the past, and cursors from elsewhere back to the start. Says how many cursors.

    On a server that the rows were written on it changes nothing. Events come once more to those who follow: they are
    delivered at least once, and a week of them is kept.
    """
    future = _FUTURE.scalar_subquery()
    from_elsewhere = sa.exists().where(events.alias().c.xid >= future)
    connection.execute(sa.update(events).where(from_elsewhere).values(xid=0))
    theirs = sa.cast(sa.func.split_part(event_cursors.c.cursor, ":", 1), sa.BigInteger) >= future
    return connection.execute(sa.update(event_cursors).where(theirs).values(cursor="0:0")).rowcount
