"""A bar while a model trains, with the loss."""

from __future__ import annotations

from typing import Any


def bar() -> Any:
    """A callback for transformers' trainer; in a notebook the bar is a widget."""
    from tqdm.auto import tqdm
    from transformers import TrainerCallback

    class Bar(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.shown = tqdm(total=state.max_steps, initial=state.global_step, desc="fine-tuning", unit="step")

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.shown.update(state.global_step - self.shown.n)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            if hasattr(self, "shown"):
                told = {k: logs[k] for k in ("loss", "eval_loss", "reward") if logs and k in logs}
                self.shown.set_postfix({k: f"{v:.3g}" for k, v in told.items()})

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.shown.close()

    return Bar()
