"""Models: everything that answers. `lab.models()` lists those that are known, `lab.model(name)` makes one."""

from llmlab._module import callable_module

callable_module(__name__, "llmlab.models.listing:models")
