"""Listing runs and adding up costs without reading every row."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the indexes, and a place for how many rows a run has."""
    op.add_column("runs", sa.Column("cells", sa.Text))
    op.drop_index("rows_by_cell", "rows")
    op.create_index("rows_by_cell", "rows", ["model", "benchmark", "protocol", "number"])
    op.create_index("rows_by_answer", "rows", ["answer_key", "run"])
