"""The head from a logistic regression on what the encoder says: a minimum, where steps find a way.

Shapes: N reviews, D width of the encoder, H inputs of the head's last layer, C labels.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft.utils.other import ModulesToSaveWrapper
from sklearn.linear_model import LogisticRegression
from torch import nn

from peft_sentiment.evaluation.probe import INVERSE_PENALTY
from peft_sentiment.model.readers import READERS

MOST_ITERATIONS = 2000

LOWEST_PASSED = 3.0
"""Standard deviations below the mean from which on DistilBERT's head, which cuts off at 0, is told
nothing more."""


@torch.no_grad()
def fit_head(
    model: nn.Module,
    states: NDArray[np.float32],
    targets: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> None:
    """Set the head's last layer to the best one for these states, under a penalty.

    DistilBERT's head has a layer before the last one, of as many outputs as inputs. It is set to
    hand the states on, standardised, so that what the head says is what the regression says. In
    other heads the layer before stays as it is.

    Args:
        model: a sequence-classification model whose head reads the first token, without its adapter
            around it; changed in place.
        states: (N, D), what the head reads.
        targets: (N,), numbers of the labels; at least two differ.
        weights: (N,), how much each counts.
    """
    classify = READERS[model.config.model_type](model)[3]  # type: ignore[index, union-attr]
    was_training = model.training
    model.eval()
    if hasattr(model, "pre_classifier"):
        _hand_on(_find_trained(model.pre_classifier), states)
    final = _find_last_linear(_find_trained(model.classifier))
    inputs = _capture_inputs(final, lambda: classify(torch.from_numpy(states).to(final.weight)))
    regress(final, inputs, targets, weights)
    model.train(was_training)


def regress(
    layer: nn.Linear,
    inputs: NDArray[np.float32],
    targets: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> None:
    """Give a (C, H) layer the weights of a logistic regression on (N, H) inputs.

    A label that no review has gets the lowest of the constants, and no say.
    """
    mean, spread = inputs.mean(0), inputs.std(0) + 1e-6
    regression = LogisticRegression(C=INVERSE_PENALTY, max_iter=MOST_ITERATIONS)
    regression.fit((inputs - mean) / spread, targets, weights)
    rows, constants = regression.coef_, regression.intercept_
    if len(rows) == 1:  # One row tells two labels apart.
        rows = np.concatenate([-rows, rows]) / 2
        constants = np.concatenate([-constants, constants]) / 2
    rows = rows / spread
    constants = constants - rows @ mean
    layer.weight.zero_()
    layer.bias.fill_(float(constants.min()))
    known = torch.from_numpy(regression.classes_)
    layer.weight[known] = torch.from_numpy(rows).to(layer.weight)
    layer.bias[known] = torch.from_numpy(constants).to(layer.bias)


def _hand_on(layer: nn.Linear, states: NDArray[np.float32]) -> None:
    mean, spread = states.mean(0), states.std(0) + 1e-6
    layer.weight.copy_(torch.diag(torch.from_numpy(1 / spread)))
    layer.bias.copy_(torch.from_numpy(LOWEST_PASSED - mean / spread))


def _find_trained(module: Any) -> Any:  # noqa: ANN401 - a module of transformers or peft
    """Return what peft trains in the place of a module."""
    if isinstance(module, ModulesToSaveWrapper):
        return module.modules_to_save[module.active_adapters[0]]
    return module


def _find_last_linear(module: nn.Module) -> nn.Linear:
    return [part for part in module.modules() if isinstance(part, nn.Linear)][-1]


def _capture_inputs(layer: nn.Linear, run: Any) -> NDArray[np.float32]:  # noqa: ANN401 - a call
    found: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    try:
        run()
    finally:
        hook.remove()
    inputs = found[0]
    captured: NDArray[np.float32] = inputs.reshape(len(inputs), -1).float().cpu().numpy()
    return captured
