"""`micro/tiny`, `micro/small`, `micro/base`: the embedded models, of Llama's shape, trained on a small written world.

They ship with the library and need no network; what they score says nothing about real models.
"""

from __future__ import annotations

from llmlab.errors import UnknownName
from llmlab.models.local.transformers import TransformersModel
from llmlab.settings import shipped


class MicroModel(TransformersModel):
    """An embedded model: `micro/` and the name of a folder `checkpoints/micro-…`. Settings as for `hf/`."""

    # so small that handing work to a second core takes longer than doing it
    usual_threads = 1

    @classmethod
    def _source(cls, name: str) -> str:
        folder = shipped("checkpoints") / f"micro-{name.partition('/')[2]}"
        if not (folder / "config.json").is_file():
            raise UnknownName.among("embedded model", name, known())
        return str(folder)


def known() -> list[str]:
    """Names of the embedded models."""
    folders = shipped("checkpoints").glob("micro-*/config.json")
    return sorted(f"micro/{path.parent.name.removeprefix('micro-')}" for path in folders)
