"""Fine-tuning: from a folder of examples to a better model, with proof. `lab.finetune(model, data)` does it."""

from llmlab._module import callable_module

callable_module(__name__, "llmlab.finetune.train:finetune")
