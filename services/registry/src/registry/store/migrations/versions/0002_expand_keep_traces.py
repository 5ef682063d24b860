"""expand: keep whose trace an event belongs to"""

from alembic import op

from kit import tables

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    tables.keep_traces_0002(op)


def downgrade() -> None:
    tables.forget_traces_0002(op)
