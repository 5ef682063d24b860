"""expand: keep what a deployment may use, and whether it stays in memory"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # Constant defaults: no row is written anew, and a release that does not know them makes rows that mean the same.
    op.add_column("deployments", sa.Column("limits", pg.JSONB(), server_default=sa.text("'{}'"), nullable=False))
    op.add_column("deployments", sa.Column("pinned", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    for column in ("pinned", "limits"):
        op.drop_column("deployments", column)
