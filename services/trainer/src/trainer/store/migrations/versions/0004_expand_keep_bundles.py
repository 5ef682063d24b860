"""expand: keep bundles of code"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "bundles",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("entries", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("project", "digest", name=op.f("pk_bundles")),
    )
    op.create_index(op.f("ix_bundles_used_at"), "bundles", ["used_at"])


def downgrade() -> None:
    op.drop_table("bundles")
