"""The loss of the head against torch's own."""

import pytest
import torch

from llmlab.finetune import loss
from llmlab.finetune.loss import head_loss


def reference(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = (hidden @ weight.T)[:, :-1]
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, len(weight)), labels[:, 1:].reshape(-1), reduction="sum"
    )


@pytest.fixture
def given() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 50, (3, 11), generator=rng)
    labels[torch.rand(3, 11, generator=rng) < 0.4] = -100
    hidden = torch.randn(3, 11, 8, generator=rng, requires_grad=True)
    return hidden, torch.randn(50, 8, generator=rng, requires_grad=True), labels


@pytest.mark.parametrize("chunk", [1, 250, 1 << 20])
def test_loss_and_gradients_equal_torchs(
    given: tuple[torch.Tensor, ...], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "CHUNK", chunk)
    hidden, weight, labels = given
    found = head_loss(hidden, weight, labels)
    expected = reference(hidden, weight, labels)
    torch.testing.assert_close(found.total, expected)
    assert found.n == int((labels[:, 1:] != -100).sum())
    mine = torch.autograd.grad(found.total / 3, [hidden, weight])
    theirs = torch.autograd.grad(expected / 3, [hidden, weight])
    torch.testing.assert_close(mine, theirs)


def test_right_predictions_are_counted(given: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, labels = given
    right = ((hidden @ weight.T).argmax(-1)[:, :-1] == labels[:, 1:]).sum()
    assert head_loss(hidden, weight, labels).right == int(right)


def test_frozen_head_and_evaluation_need_no_gradient(given: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, labels = given
    head_loss(hidden, weight.detach(), labels).total.backward()
    assert hidden.grad is not None and weight.grad is None
    with torch.no_grad():
        torch.testing.assert_close(head_loss(hidden, weight, labels).total, reference(hidden, weight, labels))


def test_nothing_to_train_on_is_a_differentiable_zero(given: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, _ = given
    found = head_loss(hidden, weight, torch.full((3, 11), -100))
    found.total.backward()
    assert found.total == 0 and found.n == 0 and hidden.grad is not None and not hidden.grad.any()


def test_autocast_is_near(given: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, labels = given
    with torch.autocast("cpu", torch.bfloat16):
        found = head_loss(hidden, weight, labels).total
    torch.testing.assert_close(found, reference(hidden, weight, labels), rtol=0.02, atol=0.1)
