"""LoRA adapters, made and stored by `peft`; the head named, our own metadata beside them."""

import dataclasses
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    TaskType,
    get_peft_model,
    get_peft_model_state_dict,
)
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from peft_sentiment.config import AdapterSettings, ModelSettings
from peft_sentiment.errors import AdapterError, OutputError, SettingsError, suggest
from peft_sentiment.files import replacing_folder
from peft_sentiment.model.dropout import replace_dropouts
from peft_sentiment.model.encoder import TOKENIZER_FILES_READ, Encoder, load_encoder
from peft_sentiment.records import ParameterCounts, build_record

METADATA_FILE = "peft_sentiment.json"
FORMAT_VERSION = 1
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", METADATA_FILE)
SEEN_FILE = "seen_reviews.safetensors"
"""Fingerprints of the reviews that the adapter was trained and validated on, where known."""
FIXED_OPTIONS = ("task_type", "peft_type", "base_model_name_or_path", "revision", "inference_mode")
"""Arguments of peft.LoraConfig that are not a user's to choose."""

TARGET_MODULES = {
    "distilbert": ("q_lin", "v_lin"),
    "bert": ("query", "value"),
    "roberta": ("query", "value"),
    "xlm-roberta": ("query", "value"),
    "camembert": ("query", "value"),
    "electra": ("query", "value"),
    "albert": ("query", "value"),
    "deberta": ("in_proj",),
    "deberta-v2": ("query_proj", "value_proj"),
    "mpnet": ("q", "v"),
    "modernbert": ("Wqkv",),
}
"""Model type -> query and value of its attention; where they are one layer, that one."""

HEAD_MODULES = {
    "distilbert": ("pre_classifier", "classifier"),
    "bert": ("classifier",),
    "roberta": ("classifier",),
    "xlm-roberta": ("classifier",),
    "camembert": ("classifier",),
    "electra": ("classifier",),
    "albert": ("classifier",),
    "deberta": ("pooler", "classifier"),
    "deberta-v2": ("pooler", "classifier"),
    "mpnet": ("classifier",),
    "modernbert": ("head", "classifier"),
}
"""Model type -> its classification head. Modules that the base lacks are trained besides."""


@dataclass(frozen=True)
class AdapterMetadata:
    """What is needed to score text and does not stand in peft's own file.

    Attributes:
        base_name: the base as it was asked for when training.
        base_revision: its revision, of a model on the hub.
        base_sha256: fingerprint of the base's weights.
        head_seed: seed of the untrained head, so that the base can be compared with again.
        label_names: label of each logit.
        label_type: `str`, or `int` where the labels were whole numbers.
        max_length: tokens read of a review.
        truncation: which part of a longer review they are.
        trained_with: settings of the run that trained it, section -> name -> value.
    """

    format_version: int
    base_name: str
    base_revision: str | None
    base_sha256: str
    head_seed: int
    label_names: tuple[str, ...]
    label_type: str
    max_length: int
    truncation: str
    versions: dict[str, str]
    trained_with: dict[str, dict[str, Any]] | None


def add_adapter(encoder: Encoder, settings: AdapterSettings, seed: int) -> PeftModel:
    """Put a new adapter on the encoder; only it and the head can be trained from then on.

    Args:
        encoder: changed in place: peft wraps its model.
        settings: of the adapter.
        seed: of the adapter's weights.

    Raises:
        SettingsError: the target modules are unknown or not in the model, or peft refuses the
            settings.
    """
    config = build_lora_config(encoder, settings)
    # peft takes the base's name from the model, which only knows the folder it was read from.
    encoder.model.name_or_path = config.base_model_name_or_path
    with torch.random.fork_rng(), _settings_errors(), _quiet_peft():
        torch.manual_seed(seed)
        model = get_peft_model(encoder.model, config)
    replace_dropouts(model)
    return model


def build_lora_config(encoder: Encoder, settings: AdapterSettings) -> LoraConfig:
    """Return peft's configuration for these settings and this encoder.

    Raises:
        SettingsError: as in `add_adapter`.
    """
    head = find_head_modules(encoder, settings.modules_to_save)
    _require_modules(encoder, head)
    values = {
        item.name: getattr(settings, item.name)
        for item in dataclasses.fields(settings)
        if item.name not in ("target_modules", "modules_to_save", "method_options")
    }
    if values["layers_to_transform"] is not None:
        values["layers_to_transform"] = list(values["layers_to_transform"])
    _require_known_options(settings.method_options)
    with _settings_errors():
        return LoraConfig(
            task_type=TaskType.SEQ_CLS,
            target_modules=list(find_target_modules(encoder, settings.target_modules, head)),
            modules_to_save=list(head),
            base_model_name_or_path=_name_base(encoder),
            revision=encoder.revision,
            **values,
            **settings.method_options,
        )


def _name_base(encoder: Encoder) -> str:
    """Return what plain peft finds the base by: for a packaged one, its folder on this machine."""
    return str(encoder.folder) if encoder.name.startswith("packaged/") else encoder.name


def find_head_modules(encoder: Encoder, asked: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the modules that must be trained and saved whole.

    They are those asked for, or else the head of the architecture; and whatever else the base has
    no weights for, which would come back at random if it were not saved.

    Raises:
        SettingsError: the architecture is unknown and its base lacks nothing.
    """
    known = asked or HEAD_MODULES.get(encoder.model.config.model_type, ())
    new = [name for name in encoder.new_modules if not _is_inside(name, known)]
    head = (*known, *new)
    if not head:
        raise SettingsError(
            f"{encoder.name}: the classification head of a {encoder.model.config.model_type} is "
            "not known. Name its modules with --modules-to-save; "
            f"the model's linear layers are: {', '.join(list_linear_layers(encoder.model))}."
        )
    return head


def find_target_modules(
    encoder: Encoder, asked: Sequence[str] | None, head: Sequence[str]
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
        return tuple(
            name
            for name, module in encoder.model.named_modules()
            if isinstance(module, nn.Linear) and not _is_inside(name, head)
        )
    targets = asked or TARGET_MODULES.get(encoder.model.config.model_type, ())
    names = [name for name, _ in encoder.model.named_modules()]
    unmatched = [target for target in targets if not any(_ends_with(n, target) for n in names)]
    if targets and not unmatched:
        return tuple(targets)
    found = f"has no layer named {unmatched[0]}" if unmatched else "is not a known architecture"
    raise SettingsError(
        f"{encoder.name}: a {encoder.model.config.model_type} {found}. Name the layers to adapt "
        f"with --target-modules; the model's linear layers are: {', '.join(layers)}."
    )


def list_linear_layers(model: nn.Module) -> list[str]:
    """Return the last part of the name of every linear layer, each once, in the model's order."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names))


def _require_modules(encoder: Encoder, names: Sequence[str]) -> None:
    modules = [name for name, _ in encoder.model.named_modules()]
    for wanted in names:
        if not any(_ends_with(name, wanted) for name in modules):
            raise SettingsError(
                f"{encoder.name}: there is no module named {wanted} to train whole. Correct "
                "--modules-to-save, or leave it out for the classification head; "
                f"the model's linear layers are: {', '.join(list_linear_layers(encoder.model))}."
            )


def alters_base(model: PeftModel) -> bool:
    """Tell whether turning the adapter off leaves something else than the base.

    Trained biases are the base's own, and PiSSA and OLoRA take what they start from out of its
    weights.
    """
    config: Any = model.peft_config["default"]
    return config.bias != "none" or config.init_lora_weights in ("pissa", "olora")


def count_parameters(model: PeftModel) -> ParameterCounts:
    """Count the weights of adapter, head and model, without peft's copy of the untrained head."""
    adapter = head = frozen = 0
    for name, parameter in model.named_parameters():
        if ".original_module." in name:
            continue
        if not parameter.requires_grad:
            frozen += parameter.numel()
        elif ".modules_to_save." in name:
            head += parameter.numel()
        else:
            adapter += parameter.numel()
    trainable, total = adapter + head, adapter + head + frozen
    return ParameterCounts(adapter, head, trainable, total, 100 * trainable / total)


def save_adapter(
    model: PeftModel,
    encoder: Encoder,
    metadata: AdapterMetadata,
    folder: Path,
    seen: NDArray[np.uint64] | None = None,
) -> None:
    """Write adapter, head, tokenizer and metadata; what stands there is kept until all is written.

    Args:
        model: with its adapter.
        encoder: its base and tokenizer.
        metadata: what else is needed to score text.
        folder: replaced as a whole.
        seen: fingerprints of the reviews it was trained and validated on, where known.

    Raises:
        OutputError: the folder can't be written, or holds something that is not ours.
    """
    require_replaceable(folder)
    config: Any = model.peft_config["default"]
    # peft appends its own names for heads each time a model is wrapped or loaded.
    config.modules_to_save = list(dict.fromkeys(config.modules_to_save))
    with replacing_folder(folder) as draft:
        model.save_pretrained(str(draft), save_embedding_layers=False)
        encoder.tokenizer.save_pretrained(str(draft))
        (draft / "README.md").unlink(missing_ok=True)
        text = json.dumps(dataclasses.asdict(metadata), indent=2, ensure_ascii=False)
        (draft / METADATA_FILE).write_text(text + "\n", encoding="utf-8")
        if seen is not None:
            save_file({"fingerprints": seen}, draft / SEEN_FILE)


def load_seen(folder: Path) -> NDArray[np.uint64] | None:
    """Return the fingerprints of the reviews that an adapter has seen, or None where unknown.

    Raises:
        AdapterError: the file is damaged.
    """
    if not (folder / SEEN_FILE).is_file():
        return None
    with _adapter_errors(folder):
        fingerprints: NDArray[np.uint64] = load_file(folder / SEEN_FILE)["fingerprints"]
    return fingerprints


def require_replaceable(folder: Path) -> None:
    """Check that an adapter may take a folder's place: nothing is lost but an older adapter.

    Raises:
        OutputError: there is a file, or a folder with something else in it.
    """
    names = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
    known = (*ADAPTER_FILES, SEEN_FILE, *TOKENIZER_FILES_READ)
    foreign = [name for name in names if not any(fnmatch(name, pattern) for pattern in known)]
    is_adapter = not foreign and any(name in ADAPTER_FILES for name in names)
    is_free = not folder.exists() or (folder.is_dir() and not names)
    if is_adapter or is_free:
        return
    found = f"it holds {foreign[0]}, which is no part of" if foreign else "what is there is not"
    raise OutputError(
        f"{folder}: {found} an adapter, and would be replaced. "
        "Name another folder with --adapter-dir, or move it away."
    )


def load_metadata(folder: Path) -> AdapterMetadata:
    """Read what a saved adapter needs besides peft's own files.

    Raises:
        AdapterError: the folder lacks a file, or the metadata is not readable.
    """
    missing = [name for name in ADAPTER_FILES if not (folder / name).is_file()]
    if not folder.is_dir():
        raise AdapterError(
            f"{folder}: no such adapter folder. Train one with: peft-sentiment run, "
            "or name the folder that a training has written."
        )
    if missing:
        raise AdapterError(
            f"{folder}: the adapter is not whole; it lacks {', '.join(missing)}. "
            "Copy the folder again with all its files, or train the adapter again."
        )
    try:
        values = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
        if values["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format {values['format_version']}, needed is {FORMAT_VERSION}")
        metadata: AdapterMetadata = build_record(AdapterMetadata, values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterError(
            f"{folder / METADATA_FILE}: not readable ({type(error).__name__}: {error}). "
            "Copy the folder again, or train the adapter again."
        ) from error
    return metadata


def load_adapter(
    folder: Path, settings: ModelSettings, base_name: str | None = None
) -> tuple[PeftModel, Encoder, AdapterMetadata]:
    """Load a saved adapter onto its base, and check that all of it has arrived.

    Args:
        folder: written by `save_adapter`.
        settings: how the base is loaded; its name and revision are replaced by the saved ones.
        base_name: where the same base is on this machine, if not under its saved name.

    Raises:
        AdapterError: the folder is incomplete or corrupt, or the base is another one.
        ModelError, HubError: the base can't be loaded.
    """
    metadata = load_metadata(folder)
    base = dataclasses.replace(
        settings,
        model_name_or_path=base_name or metadata.base_name,
        model_revision=None if base_name else metadata.base_revision,
    )
    saved = _read_adapter_shapes(folder)
    encoder = load_encoder(base, metadata.label_names, metadata.head_seed)
    _require_same_base(folder, metadata, encoder)
    with _adapter_errors(folder), _quiet_peft():
        config = PeftConfig.from_pretrained(str(folder))
        # peft looks the base up by this name, on the hub if it is no folder here.
        config.base_model_name_or_path = str(encoder.folder)
        model = PeftModel.from_pretrained(encoder.model, str(folder), config=config)
    _require_all_loaded(folder, saved, model)
    with _adapter_errors(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    _require_same_tokenizer(folder, tokenizer, encoder.tokenizer)
    return model.eval(), dataclasses.replace(encoder, tokenizer=tokenizer), metadata


def _read_adapter_shapes(folder: Path) -> dict[str, list[int]]:
    with (
        _adapter_errors(folder),
        safe_open(folder / "adapter_model.safetensors", framework="pt") as file,
    ):
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


def _require_same_base(folder: Path, metadata: AdapterMetadata, encoder: Encoder) -> None:
    if encoder.sha256 != metadata.base_sha256:
        raise AdapterError(
            f"{folder}: the adapter was made for {metadata.base_name} "
            f"(weights {metadata.base_sha256[:12]}), but {encoder.name} has other weights "
            f"({encoder.sha256[:12]}). Name the right base with --model-name-or-path."
        )


def _require_all_loaded(folder: Path, saved: Mapping[str, list[int]], model: PeftModel) -> None:
    """A weight that the file lacks would stay at random: peft only warns of it, we refuse."""
    needed = {name: list(w.shape) for name, w in get_peft_model_state_dict(model).items()}
    wrong = sorted(
        name for name in saved.keys() | needed.keys() if saved.get(name) != needed.get(name)
    )
    if wrong:
        raise AdapterError(
            f"{folder}: {len(wrong)} weights of the adapter do not fit its base, {wrong[0]} "
            "among them. Copy the folder again, or train the adapter again."
        )


def _require_same_tokenizer(
    folder: Path, tokenizer: PreTrainedTokenizerBase, of_base: PreTrainedTokenizerBase
) -> None:
    """A tokenizer that lacks a file is loaded with other tokens, without a word of warning."""
    is_same = tokenizer.get_vocab() == of_base.get_vocab()
    if not is_same or tokenizer.pad_token_id != of_base.pad_token_id:
        raise AdapterError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens that are not the "
            f"{len(of_base)} of its base; tokenizer.json or tokenizer_config.json is missing or "
            "damaged. Copy the folder again with all its files, or train the adapter again."
        )


@contextmanager
def _adapter_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except (
        SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError,
    ) as error:  # fmt: skip
        first_line = str(error).strip().split("\n")[0].rstrip(".")
        raise AdapterError(
            f"{folder}: the adapter is corrupt or made for another base ({first_line}). "
            "Copy the folder again, or train the adapter again."
        ) from error


@contextmanager
def _settings_errors() -> Iterator[None]:
    try:
        yield
    except (
        ValueError, TypeError, AttributeError, KeyError, ImportError, NotImplementedError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split()).rstrip(".")
        raise SettingsError(
            f"adapter: peft refuses these settings: {reason}. "
            "Correct what the message names, or leave it out."
        ) from error


@contextmanager
def _quiet_peft() -> Iterator[None]:
    """Mute a name that peft uses and transformers is to drop, and what we refuse ourselves."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)
        yield


def _require_known_options(options: Mapping[str, Any]) -> None:
    known = [item.name for item in dataclasses.fields(LoraConfig)]
    own = [item.name for item in dataclasses.fields(AdapterSettings)]
    for name in options:
        if name in FIXED_OPTIONS:
            raise SettingsError(
                f"adapter.method_options.{name} is not yours to choose: it follows from the task "
                "and the base. Leave it out."
            )
        if name in own:
            raise SettingsError(
                f"adapter.method_options.{name} is a setting of its own; set adapter.{name}."
            )
        if name not in known:
            raise SettingsError(
                f"adapter.method_options.{name} is no argument of peft.LoraConfig. "
                + suggest(name, known)
            )


def _ends_with(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)


def _is_inside(name: str, modules: Sequence[str]) -> bool:
    return any(f".{module}." in f".{name}." for module in modules)
