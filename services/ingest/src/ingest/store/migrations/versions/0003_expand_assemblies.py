"""expand: keep where a version comes from that another service made, and the parts that it is made of"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("versions", sa.Column("lineage", pg.JSONB(), nullable=True))
    op.create_table(
        "assemblies",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("closed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=True),
        sa.Column("touched_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_assemblies")),
    )


def downgrade() -> None:
    op.drop_table("assemblies")
    op.drop_column("versions", "lineage")
