"""A pre-trained encoder with its own standard classification head, and its tokenizer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from peft_sentiment.config import ModelSettings
from peft_sentiment.errors import ModelError, SettingsError
from peft_sentiment.files import fingerprint_weights, require_small_config
from peft_sentiment.model.base_folder import find_model_folder
from peft_sentiment.model.last_layer import read_first_token_only
from peft_sentiment.model.quantization import build_loading_options
from peft_sentiment.model.untrusted import require_names_inside, require_weights_for

BODY_DROPOUTS = (
    "dropout",
    "attention_dropout",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "embedding_dropout",
    "mlp_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
)
"""Names that configurations give to the dropout rates inside the encoder."""


@dataclass(frozen=True)
class Encoder:
    """A sequence-classification model, its tokenizer, and what its base is.

    Attributes:
        name: the base as it was asked for.
        revision: the revision that was asked for, of a model on the hub.
        folder: where the base was read from.
        sha256: fingerprint of the base's weights.
        new_modules: modules whose weights the base lacks, so that they start at random.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str | None
    folder: Path
    sha256: str
    new_modules: tuple[str, ...]


def load_encoder(settings: ModelSettings, label_names: Sequence[str], seed: int) -> Encoder:
    """Load the base and put a classification head for these labels on it.

    Args:
        settings: which base, and whether its dropout is used.
        label_names: written into the model's config, in this order.
        seed: of the head's weights.

    Raises:
        ModelError: the base is missing, incomplete, corrupt or not supported.
        HubError: the hub can't be reached or does not have the base.
    """
    name, revision = settings.model_name_or_path, settings.model_revision
    folder = find_model_folder(name, revision)
    if Path(name).expanduser().is_dir():
        name = str(Path(name).expanduser().resolve())
    with _model_errors(name, folder), _quiet_transformers(), _seeded(seed):
        require_names_inside(folder)
        require_small_config(folder / "config.json")
        head_dropout = read_head_dropout(folder)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        _set_labels(config, label_names)
        if not settings.body_dropout:
            turn_off_body_dropout(config)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **build_loading_options(settings, config.model_type),
        )
        set_head_dropout(model, head_dropout)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    new_modules = _find_new_modules(model, report, name)
    _require_same_vocabulary(model, tokenizer, name)
    _set_padding(model, tokenizer, name)
    read_first_token_only(model)
    return Encoder(
        model.eval(), tokenizer, name, revision, folder, fingerprint_weights(folder), new_modules
    )


def get_longest_input(encoder: Encoder) -> int | None:
    """Return the number of tokens the encoder can read, or None where it has no limit."""
    config = encoder.model.config
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return None
    # RoBERTa and its kin count positions from the padding token's number on.
    counts_from_padding = ("roberta", "xlm-roberta", "camembert", "mpnet")
    is_shifted = config.model_type in counts_from_padding
    return int(positions) - (config.pad_token_id + 1 if is_shifted else 0)


def require_length_fits(encoder: Encoder, max_length: int) -> None:
    """Check that the encoder can read reviews of this many tokens.

    Raises:
        SettingsError: it can't.
    """
    longest = get_longest_input(encoder)
    if longest is not None and max_length > longest:
        raise SettingsError(
            f"data.max_length is {max_length}, but {encoder.name} reads at most {longest} tokens. "
            f"Set --max-length to {longest} or less."
        )


def require_prompts_fit(encoder: Encoder, tokens: int, prompts: int, setting: str) -> None:
    """Check that learnt tokens fit in front of what is read of a review at once.

    Args:
        encoder: that reads both.
        tokens: of a review, at most.
        prompts: learnt tokens.
        setting: that says how many tokens of a review there are, as a flag.

    Raises:
        SettingsError: they don't.
    """
    longest = get_longest_input(encoder)
    if prompts and longest is not None and tokens + prompts > longest:
        raise SettingsError(
            f"adapter.method puts {prompts} learnt tokens in front of the {tokens} of a review, "
            f"but {encoder.name} reads at most {longest}. Set {setting} to {longest - prompts} or "
            "less."
        )


def turn_off_body_dropout(config: PreTrainedConfig) -> None:
    """Set every dropout rate inside the encoder to 0; a head that has none of its own follows."""
    for name in BODY_DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, 0.0)


def read_head_dropout(folder: Path) -> dict[str, float]:
    """Return the dropout rates of the classification head as its architecture has them, by name.

    Each architecture has its own rule for them, so its model is asked, built without weights.

    Raises:
        ValueError: it would take far more weights than there are.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    require_weights_for(model, folder)
    return {
        name: module.p
        for name, module in model.named_modules()
        if isinstance(module, nn.Dropout) and not _is_in_body(model, name)
    }


def set_head_dropout(model: PreTrainedModel, rates: dict[str, float]) -> None:
    """Give the dropouts of the head these rates."""
    for name, module in model.named_modules():
        if name in rates:
            module.p = rates[name]


def _is_in_body(model: PreTrainedModel, name: str) -> bool:
    return name.startswith(f"{model.base_model_prefix}.")


def _set_labels(config: PreTrainedConfig, label_names: Sequence[str]) -> None:
    config.id2label = dict(enumerate(label_names))
    config.label2id = {label: i for i, label in enumerate(label_names)}
    config.problem_type = "single_label_classification"


def _find_new_modules(model: PreTrainedModel, report: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return the modules that the base has no weights for, which only head and pooler may be."""
    keys = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]
    modules = sorted({key.rpartition(".")[0] for key in keys})
    body = [part for part in modules if _is_in_body(model, part) and "pooler" not in part]
    if body:
        raise ModelError(
            f"{name}: the weights lack {len(body)} modules of the encoder, {body[0]} among them. "
            "They are of another architecture than config.json says; fetch or save the model again."
        )
    return tuple(modules)


def _require_same_vocabulary(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str
) -> None:
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # Without its files a tokenizer is made all the same, and takes every word for unknown.
        raise ModelError(
            f"{name}: the tokenizer knows no words; the model lacks tokenizer.json or the "
            "vocabulary of its tokenizer. Fetch or save the model again with its tokenizer."
        )
    rows = int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
    if len(tokenizer) > rows:
        raise ModelError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens, the encoder {rows}. "
            "They do not belong together; fetch or save both again."
        )


def _set_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Give a decoder, which is made to write and not to read batches, a token to fill up with.

    Its head finds the last token of a review as the last one that is no padding.
    """
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(
                f"{name}: the tokenizer has neither a padding token nor one for the end of a text, "
                "so reviews of unlike length can't be read together. Add one to its "
                "tokenizer_config.json, as pad_token."
            )
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id


@contextmanager
def _model_errors(name: str, folder: Path) -> Iterator[None]:
    """Turn what loading raises for a bad folder into our error; bugs pass."""
    try:
        yield
    except SafetensorError as error:
        raise ModelError(
            f"{name}: the weights in {folder} are corrupt ({error}). Fetch the model again."
        ) from error
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, RuntimeError,
    ) as error:  # fmt: skip
        first_line = str(error).strip().split("\n")[0].rstrip(".")
        raise ModelError(
            f"{name}: the model in {folder} can't be loaded ({first_line}). "
            "It needs config.json, model.safetensors and a tokenizer of an architecture that "
            "transformers can classify with, without code of its own."
        ) from error


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw new weights from this seed, and leave the caller's random state as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep the loading report and its progress bars off the console; errors are ours to tell."""
    verbosity = transformers_logging.get_verbosity()
    bars_were_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars_were_on:
            transformers_logging.enable_progress_bar()
