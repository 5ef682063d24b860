"""expand: create lamps"""

import sqlalchemy as sa
from alembic import op

from kit import tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    tables.create_all_0001(op)
    op.create_table(
        "lamps",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), server_default="dark", nullable=False),
        sa.Column("generation", sa.Integer(), server_default="1", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_lamps")),
        sa.UniqueConstraint("project", "name", name=op.f("uq_lamps_project_name")),
    )


def downgrade() -> None:
    op.drop_table("lamps")
    tables.drop_all_0001(op)
