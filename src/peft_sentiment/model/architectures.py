"""What is known of each architecture: its classification head, and the layers to adapt."""

import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers.pytorch_utils import Conv1D

from peft_sentiment.errors import SettingsError

if typing.TYPE_CHECKING:
    from peft_sentiment.model.encoder import Encoder


_AFTER_BLOCK = re.compile(r"^.*\.\d+\.")
"""What stands before a layer's name within its block."""


@dataclass(frozen=True)
class Architecture:
    """Names of modules, by peft's rule of matching the ends of names.

    Attributes:
        head: the classification head.
        targets: query and value of the attention; where they are one layer, that one.
        keys: key and value of the attention; where they are one layer, that one.
        feedforward: second layer of the feed-forward part.
        is_decoder: whether the head reads the last token instead of the first.
    """

    head: tuple[str, ...]
    targets: tuple[str, ...]
    keys: tuple[str, ...]
    feedforward: str
    is_decoder: bool = False


_BERT = Architecture(("classifier",), ("query", "value"), ("key", "value"), "output.dense")
_LLAMA = Architecture(
    ("score",), ("q_proj", "v_proj"), ("k_proj", "v_proj"), "down_proj", is_decoder=True
)

ARCHITECTURES = {
    "distilbert": Architecture(
        ("pre_classifier", "classifier"), ("q_lin", "v_lin"), ("k_lin", "v_lin"), "lin2"
    ),
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "albert": Architecture(("classifier",), ("query", "value"), ("key", "value"), "ffn_output"),
    "deberta": Architecture(("pooler", "classifier"), ("in_proj",), ("in_proj",), "output.dense"),
    "deberta-v2": Architecture(
        ("pooler", "classifier"),
        ("query_proj", "value_proj"),
        ("key_proj", "value_proj"),
        "output.dense",
    ),
    "mpnet": Architecture(("classifier",), ("q", "v"), ("k", "v"), "output.dense"),
    "modernbert": Architecture(("head", "classifier"), ("Wqkv",), ("Wqkv",), "mlp.Wo"),
    "gpt2": Architecture(("score",), ("c_attn",), ("c_attn",), "mlp.c_proj", is_decoder=True),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
}
"""Model type -> what is known of it."""


def find_architecture(encoder: "Encoder") -> Architecture | None:
    """Return what is known of an encoder's architecture, or None where nothing is."""
    return ARCHITECTURES.get(encoder.model.config.model_type)


def find_head_modules(encoder: "Encoder", asked: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the modules that must be trained and saved whole.

    They are those asked for, or else the head of the architecture; and whatever else the base has
    no weights for, which would come back at random if it were not saved.

    Raises:
        SettingsError: the architecture is unknown and its base lacks nothing, or there is no
            module of a name.
    """
    architecture = find_architecture(encoder)
    known = asked or (architecture.head if architecture else ())
    new = [name for name in encoder.new_modules if not is_inside(name, known)]
    head = (*known, *new)
    if not head:
        raise SettingsError(
            f"{encoder.name}: the classification head of a {encoder.model.config.model_type} is "
            "not known. Name its modules with --modules-to-save; "
            f"the model's linear layers are: {', '.join(list_linear_layers(encoder.model))}."
        )
    _require_modules(encoder, head)
    return head


def find_target_modules(
    encoder: "Encoder", asked: Sequence[str] | None, head: Sequence[str]
) -> tuple[str, ...]:
    """Return the names of the layers to adapt, by peft's rule of matching name endings.

    Args:
        encoder: whose layers are meant.
        asked: names, or `all-linear` for every linear layer outside the head, or None for query
            and value.
        head: modules that are trained whole and so are not adapted.

    Raises:
        SettingsError: the architecture is unknown, or a name matches no layer.
    """
    layers = list_linear_layers(encoder.model)
    if asked is not None and "all-linear" in asked:
        return _name_all_linear(encoder, head)
    architecture = find_architecture(encoder)
    targets = asked or (architecture.targets if architecture else ())
    names = [name for name, _ in encoder.model.named_modules()]
    unmatched = [target for target in targets if not any(ends_with(n, target) for n in names)]
    if targets and not unmatched:
        return tuple(targets)
    found = f"has no layer named {unmatched[0]}" if unmatched else "is not a known architecture"
    raise SettingsError(
        f"{encoder.name}: a {encoder.model.config.model_type} {found}. Name the layers to adapt "
        f"with --target-modules; the model's linear layers are: {', '.join(layers)}."
    )


def _name_all_linear(encoder: "Encoder", head: Sequence[str]) -> tuple[str, ...]:
    """Return names of every linear layer outside the head.

    Those of a block are named once for all blocks, as peft chooses blocks by number only where it
    is not given a layer's whole name.
    """
    names = [name for name, module in encoder.model.named_modules() if is_linear(module)]
    inside = [name for name in names if is_inside(name, head)]
    found: dict[str, None] = {}
    for name in names:
        ending = _AFTER_BLOCK.sub("", name)
        if name not in inside:
            is_shared = any(ends_with(other, ending) for other in inside)
            found[name if is_shared else ending] = None
    return tuple(found)


def find_feedforward_modules(encoder: "Encoder") -> tuple[str, ...]:
    """Return the full names of the feed-forward parts' second layers; none if they are unknown."""
    architecture = find_architecture(encoder)
    if architecture is None:
        return ()
    return tuple(
        name
        for name, _ in encoder.model.named_modules()
        # The output layer of BERT's attention has the same last names.
        if ends_with(name, architecture.feedforward) and "attention.output" not in name
    )


def find_norms(encoder: "Encoder", head: Sequence[str]) -> tuple[str, ...]:
    """Return the full names of the norms outside the head, whatever their kind."""
    return tuple(
        name
        for name, module in encoder.model.named_modules()
        if type(module).__name__.endswith("Norm")
        and any(True for _ in module.parameters())
        and not is_inside(name, head)
    )


def is_linear(module: nn.Module) -> bool:
    """Tell whether a module is a linear layer, in torch's form or GPT-2's."""
    return isinstance(module, nn.Linear | Conv1D)


def list_linear_layers(model: nn.Module) -> list[str]:
    """Return the last part of the name of every linear layer, each once, in the model's order."""
    names = [name for name, module in model.named_modules() if is_linear(module)]
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names))


def ends_with(name: str, target: str) -> bool:
    """Tell whether a module's name ends in these parts."""
    return name == target or name.endswith("." + target)


def is_inside(name: str, modules: Sequence[str]) -> bool:
    """Tell whether a module is one of these or part of one."""
    return any(f".{module}." in f".{name}." for module in modules)


def _require_modules(encoder: "Encoder", names: Sequence[str]) -> None:
    modules = [name for name, _ in encoder.model.named_modules()]
    for wanted in names:
        if not any(ends_with(name, wanted) for name in modules):
            raise SettingsError(
                f"{encoder.name}: there is no module named {wanted} to train whole. Correct "
                "--modules-to-save, or leave it out for the classification head; "
                f"the model's linear layers are: {', '.join(list_linear_layers(encoder.model))}."
            )
