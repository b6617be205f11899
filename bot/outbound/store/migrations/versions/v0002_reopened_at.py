"""When an incident was reopened: what helped before that is not what fixed it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("incident", sa.Column("reopened_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("incident", "reopened_at")
