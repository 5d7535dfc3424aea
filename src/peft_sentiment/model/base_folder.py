"""The folder of a base: packaged, local, or fetched from the hub by way of its cache."""

from pathlib import Path

from huggingface_hub import constants, get_session, hf_hub_url, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from peft_sentiment.config import PACKAGED_MODELS
from peft_sentiment.errors import HubError, ModelError
from peft_sentiment.model.packaged import load_packaged_folder

FILES_READ = ["config.json", "*.safetensors", "*.safetensors.index.json"]

TOKENIZER_FILES_READ = [
    "tokenizer*.json", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json",
    "*.model",
]  # fmt: skip

HUB_TIMEOUT = 5.0
"""Seconds that the hub has for its first answer."""


def find_model_folder(name: str, revision: str | None) -> Path:
    """Return the local folder of a base: packaged, local, or from the hub by way of its cache.

    Raises:
        ModelError: there is no such folder, or it lacks a file.
        HubError: the hub can't be reached or does not have the base.
    """
    if name in PACKAGED_MODELS:
        return load_packaged_folder(name)
    if name.startswith("packaged/"):
        raise ModelError(
            f"model.model_name_or_path is {name!r}, but the packaged models are: "
            f"{', '.join(PACKAGED_MODELS)}. Name one of them with --model-name-or-path."
        )
    folder = Path(name).expanduser()
    if folder.is_dir():
        _require_model_files(folder)
        return folder
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(
            f"{name}: no such model folder. --model-name-or-path needs a folder with config.json, "
            "model.safetensors and a tokenizer, a packaged model, or a name on the hub."
        )
    folder = _download_model(name, revision)
    _require_model_files(folder)
    return folder


def _require_model_files(folder: Path) -> None:
    needed = {"config.json": "config.json", "model weights": "model*.safetensors"}
    missing = [what for what, pattern in needed.items() if not any(folder.glob(pattern))]
    if not missing:
        return
    message = f"{folder}: not a model folder; it lacks {' and '.join(missing)}."
    if any(folder.glob("pytorch_model*.bin")):
        message += (
            " Its pytorch_model.bin is a pickle, which can run code and is not read. "
            "Convert it where you trust it: load it with transformers and save it again."
        )
    elif (folder / "adapter_config.json").is_file():
        message += " It is an adapter: give it to predict, evaluate or demo, and name a base here."
    else:
        message += " Name a folder that transformers' save_pretrained has written."
    raise ModelError(message)


def _download_model(name: str, revision: str | None) -> Path:
    """Bring a model of the hub into the hub's own cache; without a network, look only there."""
    asked = f"model {name!r}" + (f", revision {revision!r}" if revision else "")
    try:
        folder = snapshot_download(
            name,
            revision=revision,
            allow_patterns=FILES_READ + TOKENIZER_FILES_READ,
            local_files_only=not _is_hub_reachable(name, revision),
        )
    except (RepositoryNotFoundError, HFValidationError) as error:
        reason = "it is gated" if isinstance(error, GatedRepoError) else "there is no such model"
        raise HubError(
            f"{constants.ENDPOINT}: {asked} can't be had: {reason}. Check the name, log in with "
            "`hf auth login` if it is private or gated, or name a local folder or "
            f"{PACKAGED_MODELS[0]} with --model-name-or-path."
        ) from error
    except RevisionNotFoundError as error:
        raise HubError(
            f"{constants.ENDPOINT}: {asked} does not exist. Correct --model-revision."
        ) from error
    except (LocalEntryNotFoundError, HTTPError, OSError) as error:
        raise HubError(
            f"{constants.ENDPOINT}: the hub can't be reached, and {asked} is not in its cache "
            f"({constants.HF_HUB_CACHE}). Check the network or HF_ENDPOINT, or name a local "
            f"folder or {PACKAGED_MODELS[0]} with --model-name-or-path."
        ) from error
    return Path(folder)


def _is_hub_reachable(name: str, revision: str | None) -> bool:
    """Tell whether the hub answers at all; its client would wait for a silent one without end."""
    url = hf_hub_url(name, "config.json", revision=revision)
    try:
        return bool(get_session().head(url, timeout=HUB_TIMEOUT).status_code < 500)
    except (HTTPError, OSError):
        return False
