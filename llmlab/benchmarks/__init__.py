"""Benchmarks: samples, wording and scoring. `lab.benchmarks()` lists them, `lab.benchmark(name)` makes one."""

from llmlab._module import callable_module

callable_module(__name__, "llmlab.benchmarks.registry:benchmarks")
