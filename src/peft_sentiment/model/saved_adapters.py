"""Adapters on disk: written by `peft`, our own metadata beside them, and checked when loaded."""

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from peft_sentiment.config import ModelSettings
from peft_sentiment.errors import (
    AdapterError,
    HubError,
    ModelError,
    OutputError,
    PeftSentimentError,
)
from peft_sentiment.files import replacing_folder
from peft_sentiment.model.adapters import prepare_base, quiet_peft, settle_ranks
from peft_sentiment.model.base_folder import TOKENIZER_FILES_READ
from peft_sentiment.model.encoder import Encoder, load_encoder
from peft_sentiment.model.metadata import (
    ADAPTER_FILES,
    CARD_FILE,
    COMPANION_FILES,
    METADATA_FILE,
    PROBE,
    SEEN_FILE,
    AdapterMetadata,
    list_sums,
    load_metadata,
    render_metadata,
)
from peft_sentiment.model.untrusted import require_sizes_of_weights


def save_adapter(
    model: PeftModel,
    encoder: Encoder,
    metadata: AdapterMetadata,
    folder: Path,
    seen: NDArray[np.uint64] | None = None,
    save_companion: Callable[[Path], None] | None = None,
) -> None:
    """Write adapter, head, tokenizer and metadata; what stands there is kept until all is written.

    Args:
        model: with its adapter.
        encoder: its base and tokenizer.
        metadata: what else is needed to score text.
        folder: replaced as a whole.
        seen: fingerprints of the reviews it was trained and validated on, where known.
        save_companion: writes `COMPANION_FILES` into a folder, where there is a companion.

    Raises:
        OutputError: the folder can't be written, or holds something that is not ours.
    """
    require_replaceable(folder)
    config: Any = model.peft_config["default"]
    # peft appends its own names for heads each time a model is wrapped or loaded.
    config.modules_to_save = list(dict.fromkeys(config.modules_to_save))
    settle_ranks(model)
    with replacing_folder(folder) as draft:
        model.save_pretrained(str(draft), save_embedding_layers=False)
        encoder.tokenizer.save_pretrained(str(draft))
        (draft / CARD_FILE).unlink(missing_ok=True)
        if seen is not None:
            save_file({"fingerprints": seen}, draft / SEEN_FILE)
        if save_companion is not None:
            save_companion(draft)
        text = render_metadata(dataclasses.asdict(metadata), list_sums(draft))
        (draft / METADATA_FILE).write_text(text, encoding="utf-8")


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
    known = (*ADAPTER_FILES, SEEN_FILE, CARD_FILE, *COMPANION_FILES, *TOKENIZER_FILES_READ)
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
    with _adapter_errors(folder):
        require_sizes_of_weights(folder / "adapter_config.json", saved)
    with _told_of_adapter(folder):
        encoder = load_encoder(base, metadata.label_names, metadata.head_seed)
    _require_same_base(folder, metadata, encoder)
    with _adapter_errors(folder), quiet_peft():
        # peft goes on with the default of a setting whose name it does not know: another model.
        warnings.filterwarnings("error", "Unexpected keyword arguments", UserWarning)
        config = PeftConfig.from_pretrained(str(folder))
        prepare_base(encoder, config)
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
    with _adapter_errors(folder):
        is_same = is_same and _try_tokenizer(tokenizer) == _try_tokenizer(of_base)
    if not is_same or tokenizer.pad_token_id != of_base.pad_token_id:
        raise AdapterError(
            f"{folder}: the tokenizer, of {len(tokenizer)} tokens, is not that of its base, of "
            f"{len(of_base)}; tokenizer.json or tokenizer_config.json is missing or damaged. "
            "Copy the folder again with all its files, or train the adapter again."
        )


def _try_tokenizer(tokenizer: PreTrainedTokenizerBase) -> tuple[Any, Any]:
    """Return what it makes of a text, by the calls with which reviews are read."""
    marked = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    return tokenizer([PROBE], verbose=False)["input_ids"], marked


@contextmanager
def _told_of_adapter(folder: Path) -> Iterator[None]:
    """Name the adapter in what is told of its base, whose name it has brought along."""
    try:
        yield
    except (ModelError, HubError) as error:
        raise type(error)(f"{folder}: its base can't be loaded. {error}") from error


@contextmanager
def _adapter_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except PeftSentimentError:
        raise
    except Exception as error:  # what four libraries raise of a file that is none of theirs
        first_line = str(error).strip().split("\n")[0].rstrip(".")
        raise AdapterError(
            f"{folder}: the adapter is corrupt or made for another base ({first_line}). "
            "Copy the folder again, or train the adapter again."
        ) from error
