"""Evaluation: plan what to ask, ask it, store it, score it."""
