"""`adapter/…` and `hf/base+adapter`: a base model with a trained adapter (LoRA and its kin, in PEFT's format)."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from llmlab.errors import BadRequest, DataError, MissingPackage
from llmlab.models.local.beside import Beside
from llmlab.models.local.engine import Engine
from llmlab.models.local.loading import Loaded
from llmlab.models.local.source import PATTERNS, Source, fingerprint, snapshot
from llmlab.models.local.transformers import TransformersModel
from llmlab.types import Options, digest

BESIDE = "+"
"""Between a base and the adapter that stays beside it, in a name."""
CONFIG = "adapter_config.json"
CARD = "llmlab.json"
"""Written beside an adapter by `lab.finetune`: the base by name, and the fingerprint of its weights."""


class AdaptedModel(TransformersModel):
    """A base model and an adapter for it, a folder or an id of the hub.

    - "adapter/./runs/tickets/adapter": merged into the base's weights when they load, so that answers take no longer
      than the base's. With `quantize` the base is quantised and the adapter stays beside it, as in training; without,
      one that was trained on a quantised base is merged into the unquantised one, which is a little different.
    - "hf/owner/base+./runs/tickets/adapter" (or "micro/base+…", an alias and "+…"): LoRA stays beside the base, which
      is in memory once for all its adapters and for the base as a model, where these have the same settings. An answer
      takes a little longer. What cannot stay beside it (DoRA, …) is merged, and `settings_used` says why.

    Args:
        name: in one of the two forms.
        options: generation options.
        base: name of the base model where the name has none; None takes the one that the adapter was trained on.
        device: as for `hf/`.
        dtype: as for `hf/`.
        revision: of the adapter on the hub.
        trust_remote_code: run the base's own Python code.
        quantize: how to store the base's weights, as for `hf/`.
        threads: CPU threads.
        batch_tokens: as for `hf/`.
    """

    def __init__(
        self,
        name: str,
        options: Options | None = None,
        *,
        base: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        quantize: str | None = None,
        threads: int | None = None,
        batch_tokens: int = 2048,
    ) -> None:
        super().__init__(
            name,
            options,
            device=device,
            dtype=dtype,
            revision=revision,
            trust_remote_code=trust_remote_code,
            quantize=quantize,
            threads=threads,
            batch_tokens=batch_tokens,
        )
        under, _, adapter = name.rpartition(BESIDE)
        if under and base and base != under:
            raise BadRequest(f"{name} names its base, and base={base!r} is another one: leave one of them out")
        self.base = under or base
        folder = adapter if under else self._source(name)
        source = AdapterSource(name, folder, device, dtype, revision, trust_remote_code, quantize, self.base)
        if threads is None and (self.base or "").startswith("micro/"):
            threads = 1
        self._engine = (Beside if under else Engine)(source, threads, batch_tokens)

    @classmethod
    def _source(cls, name: str) -> str:
        """The adapter's folder or hub id."""
        return name.rpartition(BESIDE)[2] if BESIDE in name else name.partition("/")[2]


@dataclass(frozen=True)
class AdapterSource(Source):
    """Where an adapter is, and its base."""

    base: str | None = None

    @cached_property
    def folder(self) -> Path:
        """The adapter's folder."""
        path = Path(self.source).expanduser()
        if not path.is_dir() and not path.is_absolute() and not self.source.startswith((".", "~")):
            path = snapshot(self.source, self.revision, PATTERNS)
        if not (path / CONFIG).is_file():
            raise DataError(
                f"{self.name}: {path} holds no adapter ({CONFIG} is missing); whole models are 'hf/{self.source}'"
            )
        return path

    @cached_property
    def under(self) -> Source:
        """The base model."""
        from llmlab.models.registry import maker, resolve

        config = json.loads((self.folder / CONFIG).read_text(encoding="utf-8"))
        name = resolve(self.base or self._card.get("base") or f"hf/{config.get('base_model_name_or_path')}")
        kind = maker(name)
        if not (isinstance(kind, type) and issubclass(kind, TransformersModel)):
            raise DataError(f"{self.name}: its base should be a local model, {name!r} is not")
        revision = None  # this one's is the adapter's
        source = kind.source_of(name, self.device, self.dtype, revision, self.trust_remote_code, self.quantize)
        expected = self._card.get("weights")
        if expected and expected != source.fingerprint:
            raise DataError(
                f"{self.name} was trained on {self._card.get('base')} with weights {expected}; {name} now has "
                f"{source.fingerprint}. On another base an adapter means nothing: name its own"
            )
        return source

    def check(self) -> None:
        """Refuse an adapter that was trained on another base; raises DataError."""
        _ = self.under

    @cached_property
    def fingerprint(self) -> str:
        """What adapter and base hold together."""
        return digest(fingerprint(self.folder), self.under.fingerprint)

    @property
    def weights_bytes(self) -> float:
        """Bytes of the base's weights in memory; an adapter's are few."""
        return self.under.weights_bytes

    def load(self) -> Loaded:
        """The base with the adapter merged into its weights, or beside them where these are quantised."""
        return merged(self)

    @property
    def _card(self) -> dict[str, Any]:
        path = self.folder / CARD
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return loaded


def merged(source: AdapterSource) -> Loaded:
    """The base with the adapter merged into its weights, or beside them where these are quantised.

    Raises:
        DataError: when the adapter does not fit the base.
        MissingPackage: without peft.
    """
    base = source.under
    loaded = base.load()
    try:
        from peft import PeftModel
    except ModuleNotFoundError as error:
        raise MissingPackage(f"{source.name} needs the package 'peft': pip install 'llmlab[train]'") from error
    try:
        with warnings.catch_warnings():
            # peft asks transformers by a name that the latter has deprecated
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            both = PeftModel.from_pretrained(loaded.model, str(source.folder))
            model: Any = both.get_base_model() if source.quantize else both.merge_and_unload()
    # peft raises RuntimeError for shapes, ValueError for modules that the base lacks, KeyError for a bad file
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise DataError(f"{source.name} does not fit its base {base.name}: {error}") from error
    model.eval().requires_grad_(False)
    return replace(loaded, model=model)
