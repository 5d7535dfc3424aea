"""The adapters of a running service, over one encoder in memory; exported models beside them."""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_sentiment.errors import AdapterError, PeftSentimentError
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.inference.loading import load_classifier
from peft_sentiment.model.exported_files import is_export
from peft_sentiment.model.metadata import load_metadata
from peft_sentiment.model.shared import SharedEncoder
from peft_sentiment.serving.refusals import Refusal
from peft_sentiment.serving.served import Servable, build_served

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""What an adapter may be called."""

ADAPTER = "adapter"
"""Form of what is no export."""

Overrides = Mapping[str, Mapping[str, Any]]
"""Section -> setting -> value, as given by hand."""


@dataclass(frozen=True)
class LoadedAdapter:
    """An adapter or exported model that requests can choose.

    Attributes:
        name: by which they choose it.
        folder: that it was loaded from, as it was named.
        form: `adapter`, or that of the export.
    """

    name: str
    folder: str
    form: str
    served: Servable


class AdapterRegistry:
    """The adapters by name; the first one answers requests that name none."""

    def __init__(self, overrides: Overrides, root: str | None, most: int) -> None:
        """Start without any.

        Args:
            overrides: settings of model and scoring that were given by hand.
            root: folder that adapters may be loaded from later; None for none.
            most: adapters in memory at once.

        Raises:
            AdapterError: the root is no folder.
        """
        self._overrides, self._most = overrides, most
        self._root = None if root is None else Path(root).expanduser().resolve()
        if self._root is not None and not self._root.is_dir():
            raise AdapterError(f"{root}: no such folder. Name one with --adapters-folder.")
        self._encoder = SharedEncoder()
        self._base: tuple[str, Path] | None = None
        self._adapters: dict[str, LoadedAdapter] = {}
        self._loading = threading.Lock()
        self._changing = threading.Lock()  # held for moments only: the event loop waits for it

    def __len__(self) -> int:
        """Return the number of adapters."""
        return len(self._adapters)

    def list_adapters(self) -> list[LoadedAdapter]:
        """Return all adapters, the default one first."""
        return list(self._adapters.values())

    def get(self, name: str | None) -> LoadedAdapter:
        """Return the adapter of a name, or the default one.

        Raises:
            Refusal: there is none.
        """
        adapters = self._adapters
        found = next(iter(adapters.values()), None) if name is None else adapters.get(name)
        if found is None:
            what = "No adapter is loaded" if name is None else "There is no adapter of this name"
            there = ", ".join(adapters) or "none"
            raise Refusal(404, "unknown_adapter", f"{what}; there is: {there}.")
        return found

    def require_managed(self) -> Path:
        """Return the folder that adapters are loaded from.

        Raises:
            Refusal: the service was started without one.
        """
        if self._root is None:
            message = (
                "The service was started without --adapters-folder, so its adapters can be "
                "neither loaded nor removed."
            )
            raise Refusal(403, "adapters_fixed", message)
        return self._root

    def load_from_root(self, name: str, folder: str) -> LoadedAdapter:
        """Load an adapter from below the folder that was fixed at start.

        Raises:
            Refusal: the name is taken, the folder leads out or is not there, there are too many
                adapters already, or it can't be used.
        """
        root = self.require_managed()
        place = _find_inside(root, folder)
        try:
            return self.load(name, place, folder)
        except PeftSentimentError as error:
            message = str(error).replace(f"{root}/", "")
            raise Refusal(422, "adapter_unusable", message) from error

    def load(self, name: str, place: Path, folder: str) -> LoadedAdapter:
        """Load an adapter onto the encoder that is in memory; the first one decides which.

        An exported model is loaded beside it, whatever it was made from.

        Args:
            name: by which requests choose it.
            place: where it is.
            folder: how to call that.

        Raises:
            Refusal: the name is malformed or taken, or there are too many adapters already.
            AdapterError: it can't be loaded, or is made for another encoder.
            ExportError: an exported model is not whole.
        """
        with self._loading:
            self._require_free(name)
            classifier = self._load_classifier(place)
            form = ADAPTER if classifier.export_ is None else classifier.export_.form
            served = build_served(classifier, self._encoder)
            loaded = LoadedAdapter(name, folder, form, served)
            with self._changing:
                self._adapters = {**self._adapters, name: loaded}
        return loaded

    def remove(self, name: str) -> None:
        """Forget an adapter; requests that have chosen it already are still answered.

        Raises:
            Refusal: there is none of this name, or adapters are fixed.
        """
        self.require_managed()
        with self._changing:
            self.get(name)
            self._adapters = {key: value for key, value in self._adapters.items() if key != name}

    def _require_free(self, name: str) -> None:
        if not re.match(NAME_PATTERN, name):
            message = "An adapter's name may have letters, digits, dots, dashes and underscores."
            raise Refusal(422, "malformed_name", message)
        if name in self._adapters:
            raise Refusal(409, "name_taken", f"There is an adapter {name} already. Remove it.")
        if len(self._adapters) >= self._most:
            message = f"There are {self._most} adapters, as many as may be. Remove one."
            raise Refusal(409, "too_many_adapters", message)

    def _load_classifier(self, place: Path) -> SentimentClassifier:
        """Load a classifier; a base that is in memory is not looked for anywhere else."""
        if is_export(place):  # holds its base
            return load_classifier(place, self._overrides)
        if self._base is None:
            classifier = load_classifier(place, self._overrides)
            self._base = classifier.encoder_.sha256, classifier.encoder_.folder
            return classifier
        sha256, base = self._base
        metadata = load_metadata(place)
        if metadata.base_sha256 != sha256:
            raise AdapterError(
                f"{place}: the adapter was made for {metadata.base_name} (weights "
                f"{metadata.base_sha256[:12]}), but this service's encoder has other weights "
                f"({sha256[:12]}). Serve it with a service of its own."
            )
        model = {**self._overrides.get("model", {}), "model_name_or_path": str(base)}
        return load_classifier(place, {**self._overrides, "model": model})


def _find_inside(root: Path, folder: str) -> Path:
    """Return the place of a folder below the root, all links followed.

    Raises:
        Refusal: it leads out of the root, or is not there.
    """
    try:
        place = (root / folder).resolve()
        is_inside = place != root and place.is_relative_to(root)
        is_there = is_inside and place.is_dir()
    except (OSError, ValueError, RuntimeError):
        is_inside = is_there = False
    if not is_inside:
        message = "The folder must lie below the one that was named with --adapters-folder."
        raise Refusal(403, "folder_outside", message)
    if not is_there:
        raise Refusal(404, "unknown_folder", "There is no such folder.")
    return place
