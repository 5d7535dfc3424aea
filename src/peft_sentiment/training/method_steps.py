"""What some methods need of the training loop: learning rates of their own, and AdaLoRA's ranks."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel, PeftType
from torch import nn
from torch.optim import AdamW

from peft_sentiment.config import TrainingSettings
from peft_sentiment.errors import SettingsError
from peft_sentiment.model.architectures import is_inside


def build_optimizer(
    model: nn.Module, settings: TrainingSettings, ratios: Mapping[str, float]
) -> AdamW:
    """Return an optimizer of the trained weights.

    Args:
        model: whose weights that require a gradient are trained.
        settings: of the run.
        ratios: module -> factor of its weights' learning rate.

    Raises:
        ValueError: the rate is still to be chosen by the method.
    """
    if not settings.learning_rate:
        raise ValueError("learning_rate is 0: settle it before the training")
    groups: dict[float, list[nn.Parameter]] = {1.0: []}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            # peft trains a copy of a module, and calls it this within the module.
            own = name.replace("modules_to_save.default.", "")
            factor = next((ratio for part, ratio in ratios.items() if is_inside(own, [part])), 1.0)
            groups.setdefault(factor, []).append(weight)
    parameters = [
        {"params": weights, "lr": settings.learning_rate * factor}
        for factor, weights in groups.items()
        if weights
    ]
    return AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)


IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""Names under which peft keeps how much each singular vector matters."""


@dataclass(frozen=True)
class AdaLoraSteps:
    """AdaLoRA's part in a training: its penalty, and its ranks after each step.

    Source: Zhang et al., Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning, 2023.

    Attributes:
        model: with the adapter.
        matrices: the singular vectors of each layer, of r rows or columns.
        weight: of the penalty in the loss.
    """

    model: PeftModel
    matrices: tuple[tuple[str, nn.Parameter], ...]
    weight: float

    def add_penalty(self, backward: Callable[[torch.Tensor], Any]) -> None:
        """Add the gradient of what keeps the singular vectors orthogonal.

        peft adds this to a loss that the model computes itself; ours is computed outside it.
        """
        if self.weight == 0 or not self.matrices:
            return
        penalty = torch.stack([self._measure_skew(name, m) for name, m in self.matrices]).mean()
        backward(self.weight * penalty)

    def allocate(self, step: int) -> None:
        """Share the ranks out anew after a step, numbered from 1, while its gradients are there."""
        self.model.base_model.update_and_allocate(step)  # type: ignore[operator]

    def capture(self) -> tuple[dict[str, torch.Tensor], dict[str, list[bool]]]:
        """Return what is known of the ranks' importance, and which of them are in use."""
        allocator: Any = self.model.base_model.rankallocator
        tensors = {
            f"{kind}.{name}": tensor
            for kind in IMPORTANCE
            for name, tensor in getattr(allocator, kind).items()
        }
        return tensors, dict(self._config.rank_pattern or {})

    def restore(
        self, tensors: Mapping[str, torch.Tensor], pattern: Mapping[str, list[bool]]
    ) -> None:
        """Put back what `capture` has returned."""
        allocator: Any = self.model.base_model.rankallocator
        device = next(self.model.parameters()).device
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            getattr(allocator, kind)[name] = tensor.to(device)
        self._config.rank_pattern = dict(pattern)

    @property
    def _config(self) -> Any:  # noqa: ANN401 - peft has no types
        return self.model.active_peft_config

    @staticmethod
    def _measure_skew(name: str, matrix: nn.Parameter) -> torch.Tensor:
        products = matrix @ matrix.T if ".lora_A." in name else matrix.T @ matrix
        eye = torch.eye(len(products), device=products.device)
        skew: torch.Tensor = torch.linalg.matrix_norm(products - eye)
        return skew


def begin_adalora(model: nn.Module, steps: int) -> AdaLoraSteps | None:
    """Return AdaLoRA's part in a training of so many steps, or None for any other method.

    Raises:
        SettingsError: its own phases do not fit into that many steps.
    """
    if not isinstance(model, PeftModel) or model.active_peft_config.peft_type != PeftType.ADALORA:
        return None
    config: Any = model.active_peft_config
    if config.tinit >= steps - config.tfinal:
        raise SettingsError(
            f"adapter.method_options: AdaLoRA's tinit {config.tinit} and tfinal {config.tfinal} "
            f"leave none of the {steps} steps to share ranks out in. Lower them, or train longer."
        )
    config.total_step = steps
    named = _list_vectors(model.named_parameters())
    return AdaLoraSteps(model, tuple(named), float(config.orth_reg_weight))


def _list_vectors(
    parameters: Iterable[tuple[str, nn.Parameter]],
) -> list[tuple[str, nn.Parameter]]:
    return [(n, p) for n, p in parameters if ".lora_A." in n or ".lora_B." in n]
