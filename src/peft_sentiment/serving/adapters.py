"""The adapters of a running service, over one encoder in memory."""

import copy
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from peft_sentiment.data.batching import TokenizedReviews, tokenize_reviews
from peft_sentiment.errors import AdapterError, PeftSentimentError
from peft_sentiment.evaluation.prediction import iterate_padded_logits
from peft_sentiment.evaluation.probabilities import compute_probabilities
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.inference.loading import load_classifier
from peft_sentiment.model.metadata import load_metadata
from peft_sentiment.model.packed import PackedModel
from peft_sentiment.model.packing import pack_reviews
from peft_sentiment.model.readers import can_score_packed
from peft_sentiment.model.shared import SharedEncoder
from peft_sentiment.model.workspace import Workspace
from peft_sentiment.records import Predictions
from peft_sentiment.records.calibration import Calibration
from peft_sentiment.records.explanation import Explanation
from peft_sentiment.serving.refusals import Refusal

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""What an adapter may be called."""

Overrides = Mapping[str, Mapping[str, Any]]
"""Section -> setting -> value, as given by hand."""


class Servable(Protocol):
    """What the service needs of a classifier, whatever computes it.

    Attributes:
        mixable: its fast form, where its reviews can be computed together with others'.
    """

    mixable: PackedModel | None

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels, in the order of the logits."""

    @property
    def calibration(self) -> Calibration | None:
        """What validation says of the probabilities, where there was one."""

    def tokenize(self, texts: Sequence[str]) -> TokenizedReviews:
        """Return what is read of the texts; called by one thread at a time."""

    def score(
        self, token_ids: Sequence[NDArray[np.int32]], workspace: Workspace
    ) -> NDArray[np.float32]:
        """Return (B, C) logits; called by several threads at a time."""

    def conclude(
        self, texts: Sequence[str], reviews: TokenizedReviews, logits: NDArray[np.float32]
    ) -> Predictions:
        """Return what is said in the end, calibrated."""

    def explain(self, texts: Sequence[str]) -> list[Explanation]:
        """Say which words spoke for each label; called by one thread at a time."""


class ServedClassifier:
    """A loaded classifier whose base weights are the shared ones."""

    def __init__(self, classifier: SentimentClassifier, encoder: SharedEncoder) -> None:
        """Share the weights, and build the fast form where there is one."""
        self._classifier, self._data = classifier, classifier.settings.data
        encoder.share(classifier.model_)
        # Explanations are made by another thread, and a tokenizer must not be used by two.
        self._tokenizer = copy.deepcopy(classifier.encoder_.tokenizer)
        precision, model = classifier.precision_, classifier.model_
        self._packed: PackedModel | None = None
        if precision.device.type == "cpu" and can_score_packed(model):
            self._packed = encoder.build_packed_model(
                model, precision.dtype, precision.choose_scoring_form
            )
        self.mixable = self._packed if encoder.holds_frame(model) else None

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels, in the order of the logits."""
        return self._classifier.label_names

    @property
    def calibration(self) -> Calibration | None:
        """What validation says of the probabilities, where there was one."""
        return self._classifier.calibration_

    def tokenize(self, texts: Sequence[str]) -> TokenizedReviews:
        """Return what is read of the texts; called by one thread at a time."""
        data = self._data
        return tokenize_reviews(
            texts, self._tokenizer, data.max_length, data.truncation, data.window_length
        )

    def score(
        self, token_ids: Sequence[NDArray[np.int32]], workspace: Workspace
    ) -> NDArray[np.float32]:
        """Return (B, C) logits; called by several threads at a time."""
        if self._packed is not None:
            scored: NDArray[np.float32] = self._packed.score(
                pack_reviews(token_ids), workspace
            ).numpy()
            return scored
        classifier, reviews = self._classifier, _as_reviews(token_ids)
        pad_id = int(classifier.encoder_.tokenizer.pad_token_id)
        logits = np.zeros((len(reviews), len(self.label_names)), np.float32)
        for places, of_batch in iterate_padded_logits(
            classifier.model_, reviews, pad_id, len(reviews), classifier.precision_
        ):
            logits[places] = of_batch
        return logits

    def conclude(
        self, texts: Sequence[str], reviews: TokenizedReviews, logits: NDArray[np.float32]
    ) -> Predictions:
        """Return what is said in the end, calibrated."""
        alone = Predictions(
            self.label_names, compute_probabilities(logits), reviews.lengths, reviews.is_cut, 0.0
        )
        return self._classifier.conclude(texts, alone)

    def explain(self, texts: Sequence[str]) -> list[Explanation]:
        """Say which words spoke for each label; called by one thread at a time."""
        return self._classifier.explain(texts)


def _as_reviews(token_ids: Sequence[NDArray[np.int32]]) -> TokenizedReviews:
    return TokenizedReviews(list(token_ids), np.zeros(len(token_ids), np.bool_))


@dataclass(frozen=True)
class LoadedAdapter:
    """An adapter that requests can choose.

    Attributes:
        name: by which they choose it.
        folder: that it was loaded from, as it was named.
    """

    name: str
    folder: str
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

        Args:
            name: by which requests choose it.
            place: where it is.
            folder: how to call that.

        Raises:
            Refusal: the name is malformed or taken, or there are too many adapters already.
            AdapterError: it can't be loaded, or is made for another encoder.
        """
        with self._loading:
            self._require_free(name)
            classifier = self._load_classifier(place)
            loaded = LoadedAdapter(name, folder, ServedClassifier(classifier, self._encoder))
            self._adapters = {**self._adapters, name: loaded}
        return loaded

    def remove(self, name: str) -> None:
        """Forget an adapter; requests that have chosen it already are still answered.

        Raises:
            Refusal: there is none of this name, or adapters are fixed.
        """
        self.require_managed()
        with self._loading:
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
