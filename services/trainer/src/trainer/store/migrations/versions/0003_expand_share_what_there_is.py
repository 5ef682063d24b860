"""expand: share what there is by quotas and priorities, count what is used, and keep secrets"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
AMOUNTS = ("cpu_millis", "memory_bytes", "gpus")


def _time(name: str, *, nullable: bool = True) -> sa.Column[object]:
    default = None if nullable else sa.func.clock_timestamp()
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable)


def _amounts(prefix: str = "", *, nullable: bool = False) -> list[sa.Column[object]]:
    default = None if nullable else "0"
    return [
        sa.Column(f"{prefix}{name}", sa.BigInteger(), server_default=default, nullable=nullable) for name in AMOUNTS
    ]


def upgrade() -> None:
    # Constant defaults: no row is written anew. What a release makes that knows no quotas is not admitted by one.
    op.add_column("jobs", sa.Column("paused_seconds", sa.Double(), server_default="0", nullable=False))
    op.add_column("jobs", _time("paused_since"))
    op.add_column("attempts", sa.Column("admitted", sa.Boolean(), server_default=sa.false(), nullable=False))
    for column in _amounts():
        op.add_column("attempts", column)
    op.add_column("attempts", sa.Column("priority", sa.Integer(), server_default="0", nullable=False))
    op.add_column("attempts", sa.Column("preempted_for", sa.Uuid(), nullable=True))
    _create_quotas()
    _create_usage()
    op.create_table(
        "secrets",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        _time("created_at", nullable=False),
        _time("updated_at", nullable=False),
        sa.PrimaryKeyConstraint("project", "name", name=op.f("pk_secrets")),
    )


def _create_quotas() -> None:
    op.create_table(
        "quotas",
        sa.Column("project", sa.Text(), nullable=False),
        *_amounts(nullable=True),
        sa.Column("jobs", sa.BigInteger(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=True),
        sa.Column("core_hours", sa.Double(), nullable=True),
        sa.Column("period", sa.Text(), server_default="month", nullable=False),
        *_amounts("used_"),
        sa.Column("used_jobs", sa.BigInteger(), server_default="0", nullable=False),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("project", name=op.f("pk_quotas")),
    )
    op.create_table(
        "waiting",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        _time("since", nullable=False),
        sa.PrimaryKeyConstraint("project", "job_id", name=op.f("pk_waiting")),
    )


def _create_usage() -> None:
    op.create_table(
        "usage",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=False) for name in ("core_seconds", "gib_seconds", "gpu_seconds")),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "day", "subject", name=op.f("pk_usage")),
    )


def downgrade() -> None:
    for table in ("secrets", "usage", "waiting", "quotas"):
        op.drop_table(table)
    for column in ("preempted_for", "priority", *reversed(AMOUNTS), "admitted"):
        op.drop_column("attempts", column)
    for column in ("paused_since", "paused_seconds"):
        op.drop_column("jobs", column)
