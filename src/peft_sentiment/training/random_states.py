"""The states of torch's generators, which a training that is continued takes up again."""

from collections.abc import Mapping

import torch


def capture_random_states() -> dict[str, torch.Tensor]:
    """Return the states of torch's generators by device, such as `cpu` and `cuda.0`."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    if torch.backends.mps.is_available():
        states["mps.0"] = torch.mps.get_rng_state()
    return states


def restore_random_states(states: Mapping[str, torch.Tensor]) -> None:
    """Put the states of torch's generators back; those of devices that are not here are left."""
    for name, state in states.items():
        kind, _, number = name.partition(".")
        if kind == "cpu":
            torch.set_rng_state(state)
        elif kind == "cuda" and int(number) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, int(number))
        elif kind == "mps" and torch.backends.mps.is_available():
            torch.mps.set_rng_state(state)
