"""SQL storage: every answer that was ever paid for, and the rows of every run. Takes and gives plain dicts."""

from llmlab.store.store import Store

__all__ = ["Store"]
