"""Packages that are also functions: `lab.models` is a package, and `lab.models()` lists the models."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


def callable_module(name: str, target: str) -> None:
    """Make the module `name` callable; a call goes to `target` ("package.module:function"), imported then."""
    path, _, function = target.partition(":")

    class CallableModule(ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(path), function)(*args, **kwargs)

    CallableModule.__name__ = name
    sys.modules[name].__class__ = CallableModule
