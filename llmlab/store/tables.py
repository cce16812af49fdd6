"""The tables. A change here needs a migration in `migrations/versions` and a new HEAD."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

# newest revision; a file stamped with it opens without loading Alembic
HEAD = "0005"
VERSION_TABLE = "llmlab_version"

metadata = MetaData()


class Json(Text):
    """JSON as text: unlike the databases' own JSON types it keeps NaN and the order of keys."""


# SQLite numbers rows by itself only in a column of type INTEGER
_Number = BigInteger().with_variant(Integer, "sqlite")

answers = Table(
    "answers",
    metadata,
    Column("key", Text, primary_key=True),  # digest of all that the answer depends on
    Column("created", DateTime(timezone=True), nullable=False),
    Column("model", Text),
    Column("model_version", Text),
    Column("request", Json),
    Column("reply", Json),
    Column("cost", Double),
    Column("price", Text),
    Column("seconds", Double),
    Column("nones", Json),  # numbers that were None; NaN is NULL, so that SQL averages skip it
)

runs = Table(
    "runs",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("name", Text),
    Column("project", Text),
    Column("config", Json),
    Column("versions", Json),
    Column("status", Text),
    Column("seconds", Double),
    Column("cost", Double),
    Column("cells", Json),  # [[model, benchmark, rows], ...] of a run that ended; NULL: count them
    Column("size", BigInteger),  # rows of a run that ended
    Index("runs_by_time", "created", "number"),
)

# the same prompt goes to many models in many runs
prompts = Table(
    "prompts",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("text", Text, nullable=False),
)

rows = Table(
    "rows",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("run", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("benchmark", Text, nullable=False),
    Column("benchmark_version", Text),
    Column("protocol", Text, nullable=False),
    Column("sample", Text, nullable=False),
    Column("cluster", Text),
    Column("tags", Text),
    Column("repeat", Integer, nullable=False),
    Column("answer_key", Text),
    Column("prompt", Text),  # key into prompts
    Column("text", Text),
    Column("shared_text", Boolean, nullable=False),  # the text is that of the answer and not kept here again
    Column("answer", Text),
    Column("target", Text),
    Column("score", Double),
    Column("metrics", Json),
    Column("explanation", Text),
    Column("parsed", Boolean),
    Column("finish_reason", Text),
    Column("refused", Boolean),
    Column("truncated", Boolean),
    Column("empty", Boolean),
    Column("error", Text),
    Column("error_kind", Text),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("cost", Double),
    Column("price", Text),
    Column("judge_cost", Double),
    Column("seconds", Double),
    Column("first_token_seconds", Double),
    Column("model_version", Text),
    Column("prompt_hash", Text),
    Column("seed", BigInteger),
    Column("cached", Boolean),
    Column("attempts", Integer),
    Column("notes", Text),
    Column("applied", Json),
    Column("dropped", Json),
    Column("provenance", Json),
    Column("chance", Double),
    Column("metric", Text),
    Column("nones", Json),
    UniqueConstraint("run", "model", "benchmark", "protocol", "sample", "repeat", name="one_row_per_item"),
    Index("rows_by_cell", "model", "benchmark", "protocol", "number"),
    Index("rows_by_answer", "answer_key", "run"),
)

spend = Table(
    "spend",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("project", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("cost", Double),
    Index("spend_by_project", "project", "created"),
)

# what all answers cost that were ever stored, those that were pruned too; grows with days, models and projects only
costs = Table(
    "costs",
    metadata,
    Column("day", Text, nullable=False),  # in UTC
    Column("model", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("imputed", Boolean, nullable=False),  # the time of this machine, which nobody charges
    Column("answers", BigInteger, nullable=False),
    Column("cost", Double, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    PrimaryKeyConstraint("day", "model", "project", "imputed", name="costs_pkey"),
)

# few and small: experiments, profiles, feedback, watches, alerts
documents = Table(
    "documents",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("project", Text),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("body", Json),
    UniqueConstraint("kind", "key", name="one_document_per_key"),
    Index("documents_by_time", "kind", "created"),
)

# what a person sees of a row, in the order of the Results table
COLUMNS = tuple(
    """
    run model benchmark benchmark_version protocol sample cluster tags repeat prompt text answer target score
    metrics explanation parsed finish_reason refused truncated empty error error_kind input_tokens output_tokens
    cached_tokens reasoning_tokens cost price judge_cost seconds first_token_seconds model_version prompt_hash
    seed cached attempts notes applied dropped provenance chance metric
    """.split()  # noqa: SIM905  # 44 names read better than 44 quoted ones
)
