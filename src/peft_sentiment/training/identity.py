"""What makes two trainings the same one, so that a checkpoint of one may be continued as the other.

Torch-free.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FREE_SECTIONS = ("output", "evaluation")
FREE_SETTINGS = (
    ("training", "logging_steps"),
    ("training", "report_to"),
    ("data", "token_cache_dir"),
)
"""Settings that training does not depend on: they may be others when it is resumed."""

NOTES = {
    "training.num_train_epochs": "the learning rate falls to 0 over all epochs, so a training of "
    "more epochs is another one from its first step on",
}
"""Why a setting that one would like to change may not be."""


@dataclass(frozen=True)
class TrainingIdentity:
    """All that a training's outcome depends on.

    Attributes:
        settings: section -> setting -> value, without those that may change.
        data_sha256: of the token ids and labels of the training and validation reviews.
        base_sha256: of the base's weights.
        precision: dtype and forms of attention, which a continued training takes over.
        environment: name -> value, of what changes no more than the last bits of the outcome.
        processes: for which the steps are laid out, which a continued training takes over.
    """

    settings: dict[str, dict[str, Any]]
    data_sha256: str
    base_sha256: str
    precision: dict[str, Any]
    environment: dict[str, Any]
    processes: int = 1

    @property
    def sha256(self) -> str:
        """One hash of all that must be the same: all but precision and environment."""
        parts = (self.settings, self.data_sha256, self.base_sha256)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def select_binding_settings(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the settings that a training depends on, as JSON would give them back."""
    bound = {
        section: {
            name: value for name, value in values.items() if (section, name) not in FREE_SETTINGS
        }
        for section, values in tables.items()
        if section not in FREE_SECTIONS
    }
    selected: dict[str, dict[str, Any]] = json.loads(json.dumps(bound))
    return selected


def list_differences(then: TrainingIdentity, now: TrainingIdentity) -> list[str]:
    """Return, in words, what forbids to continue the training `then` as `now`; empty if nothing."""
    before, after = flatten(then.settings), flatten(now.settings)
    names = sorted(name for name in before | after if before.get(name) != after.get(name))
    differences = [
        f"{name} was {_show(before, name)} and is {_show(after, name)}"
        + (f" ({NOTES[name]})" if name in NOTES else "")
        for name in names
    ]
    if then.data_sha256 != now.data_sha256 and not any(n.startswith("data.") for n in names):
        differences.append("the reviews are others than they were")
    if then.base_sha256 != now.base_sha256 and not any(n.startswith("model.") for n in names):
        differences.append("the base model's weights are others than they were")
    return differences


def list_shifts(then: TrainingIdentity, now: TrainingIdentity) -> list[str]:
    """Return, in words, what may change the last bits of a training that is continued."""
    before = {**then.environment, "processes": then.processes}
    after = {**now.environment, "processes": now.processes}
    return [
        f"{name} was {_show(before, name)} and is {_show(after, name)}"
        for name in sorted(before | after)
        if before.get(name) != after.get(name)
    ]


def flatten(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return `section.setting` -> value."""
    return {
        f"{section}.{name}": v for section, values in tables.items() for name, v in values.items()
    }


def _show(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name], ensure_ascii=False) if name in values else "unset"


def as_json(identity: TrainingIdentity) -> dict[str, Any]:
    """Return an identity for a JSON file, with its hash."""
    return {**dataclasses.asdict(identity), "sha256": identity.sha256}
