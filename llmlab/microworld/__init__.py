"""The embedded world: a small generated language, its benchmarks, and the models trained on it.

`world` holds the tables, `items` the questions and who may see them, `documents` and `families` the training
text, `rows` the benchmark rows, `heldout` the tasks kept for fine-tuning, `train` the models. The library itself
reads only what this package made: `checkpoints/` and `data/`.
"""
