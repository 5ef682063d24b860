"""expand: keep whose trace a deployment and its revisions belong to"""

from alembic import op

from kit import tables

revision = "0002"
down_revision = "0001"
TABLES = ("deployments", "revisions")


def upgrade() -> None:
    tables.keep_traces_0002(op, *TABLES)


def downgrade() -> None:
    tables.forget_traces_0002(op, *TABLES)
