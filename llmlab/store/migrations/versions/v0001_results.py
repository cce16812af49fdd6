"""Answers, and the rows of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "answers",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("model_version", sa.Text),
        sa.Column("request", sa.Text),
        sa.Column("reply", sa.Text),
        sa.Column("cost", sa.Double),
        sa.Column("price", sa.Text),
        sa.Column("seconds", sa.Double),
        sa.Column("nones", sa.Text),
    )
    op.create_table(
        "runs",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("project", sa.Text),
        sa.Column("config", sa.Text),
        sa.Column("versions", sa.Text),
        sa.Column("status", sa.Text),
        sa.Column("seconds", sa.Double),
        sa.Column("cost", sa.Double),
    )
    op.create_table(
        "prompts",
        sa.Column("hash", sa.Text, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_table(
        "rows",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("benchmark", sa.Text, nullable=False),
        sa.Column("benchmark_version", sa.Text),
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("sample", sa.Text, nullable=False),
        sa.Column("cluster", sa.Text),
        sa.Column("tags", sa.Text),
        sa.Column("repeat", sa.Integer, nullable=False),
        sa.Column("answer_key", sa.Text),
        sa.Column("prompt", sa.Text),
        sa.Column("text", sa.Text),
        sa.Column("shared_text", sa.Boolean, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("target", sa.Text),
        sa.Column("score", sa.Double),
        sa.Column("metrics", sa.Text),
        sa.Column("explanation", sa.Text),
        sa.Column("parsed", sa.Boolean),
        sa.Column("finish_reason", sa.Text),
        sa.Column("refused", sa.Boolean),
        sa.Column("truncated", sa.Boolean),
        sa.Column("empty", sa.Boolean),
        sa.Column("error", sa.Text),
        sa.Column("error_kind", sa.Text),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("cached_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("cost", sa.Double),
        sa.Column("price", sa.Text),
        sa.Column("judge_cost", sa.Double),
        sa.Column("seconds", sa.Double),
        sa.Column("first_token_seconds", sa.Double),
        sa.Column("model_version", sa.Text),
        sa.Column("prompt_hash", sa.Text),
        sa.Column("seed", sa.BigInteger),
        sa.Column("cached", sa.Boolean),
        sa.Column("attempts", sa.Integer),
        sa.Column("notes", sa.Text),
        sa.Column("applied", sa.Text),
        sa.Column("dropped", sa.Text),
        sa.Column("provenance", sa.Text),
        sa.Column("chance", sa.Double),
        sa.Column("metric", sa.Text),
        sa.Column("nones", sa.Text),
        sa.UniqueConstraint("run", "model", "benchmark", "protocol", "sample", "repeat", name="one_row_per_item"),
    )
    op.create_index("rows_by_cell", "rows", ["model", "benchmark", "protocol"])
