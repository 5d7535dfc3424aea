"""Sending an adapter and its card to a hub; what would go can be seen before."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
)
from huggingface_hub.utils._validators import validate_repo_id
from rich.console import Console
from rich.text import Text

from peft_sentiment.errors import HubError
from peft_sentiment.files import require_writable_folder
from peft_sentiment.model.base_folder import TOKENIZER_FILES_READ
from peft_sentiment.model.metadata import (
    ADAPTER_FILES,
    CARD_FILE,
    COMPANION_FILES,
    METADATA_FILE,
    SEEN_FILE,
    is_summed,
    load_metadata,
    render_metadata,
)
from peft_sentiment.reporting.model_card import write_model_card

CONFIG_FILE = "adapter_config.json"


@dataclass(frozen=True)
class Parcel:
    """What goes to a hub: name in the repository -> contents."""

    repo_id: str
    files: dict[str, bytes]


def pack_adapter(folder: Path, repo_id: str, with_fingerprints: bool) -> Parcel:
    """Collect what goes: adapter, companion, tokenizer, metadata, card; no path of this machine.

    Fingerprints of the training reviews let whoever has a review find out whether it was among
    them, so they stay here unless they are asked for. Anything else in the folder stays too.

    Args:
        folder: of the adapter; its card is made where it has none.
        repo_id: `owner/name` on the hub.
        with_fingerprints: whether they go too.

    Raises:
        AdapterError: the folder is not that of a whole adapter.
        HubError: the repository's name is not one.
        OutputError: the card can't be written.
    """
    _require_repo_id(repo_id)
    metadata = load_metadata(folder)
    if not (folder / CARD_FILE).is_file():
        require_writable_folder(folder, "DIR")
        write_model_card(folder, None)
    wanted = [*ADAPTER_FILES, *COMPANION_FILES, *TOKENIZER_FILES_READ, CARD_FILE]
    wanted += [SEEN_FILE] if with_fingerprints else []
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    chosen = [name for name in names if any(fnmatch(name, pattern) for pattern in wanted)]
    files = {name: (folder / name).read_bytes() for name in chosen}
    files[CONFIG_FILE] = _name_base(files[CONFIG_FILE], metadata.base_name)
    files[METADATA_FILE] = _rewrite_metadata(files)
    return Parcel(repo_id, files)


def show_parcel(console: Console, parcel: Parcel) -> None:
    """Show what would go where."""
    console.print(Text(f"To {parcel.repo_id} would go:"))
    for name, content in parcel.files.items():
        console.print(Text(f"  {len(content):>12,} bytes  {name}"))


def send_parcel(parcel: Parcel, private: bool) -> str:
    """Send a parcel in one commit, to a repository that is made where there is none.

    Returns:
        The commit's address.

    Raises:
        HubError: the hub refuses it or can't be reached.
    """
    api = HfApi()
    operations = [CommitOperationAdd(name, content) for name, content in parcel.files.items()]
    try:
        api.create_repo(parcel.repo_id, private=private, exist_ok=True)
        commit = api.create_commit(
            parcel.repo_id, operations, commit_message="Add an adapter and its card"
        )
    except (LocalTokenNotFoundError, HfHubHTTPError, HTTPError, OSError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise HubError(
            f"{parcel.repo_id}: the hub did not take the adapter ({type(error).__name__}: "
            f"{first_line}). Log in with a token that may write, by `hf auth login` or HF_TOKEN, "
            "and check name and network."
        ) from error
    return str(commit.commit_url)


def _require_repo_id(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubError(
            f"{repo_id}: not the name of a repository ({error}). Name it as owner/name."
        ) from error


def _rewrite_metadata(files: Mapping[str, bytes]) -> bytes:
    """Return the metadata without paths of this machine, and with the sums of what goes."""
    values = json.loads(files[METADATA_FILE])
    values["base_name"] = _shorten(values["base_name"])
    for section in (values.get("trained_with") or {}).values():
        for name, value in section.items():
            if isinstance(value, str):
                section[name] = _shorten(value)
            elif isinstance(value, list):
                section[name] = [_shorten(v) if isinstance(v, str) else v for v in value]
    sums = {
        name: hashlib.sha256(content).hexdigest()
        for name, content in files.items()
        if is_summed(name)
    }
    return render_metadata(values, sums).encode()


def _name_base(content: bytes, base_name: str) -> bytes:
    """Return peft's settings with the base's name in place of its folder on this machine."""
    values = json.loads(content)
    if Path(values["base_model_name_or_path"] or "").is_absolute():
        values["base_model_name_or_path"] = _shorten(base_name)
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


def _shorten(name: str) -> str:
    return Path(name).name if Path(name).is_absolute() else name
