"""Encoders of a few thousand random weights, in every form the package knows, and their tokenizer.

They are saved as a hub would hold them: safetensors, config and tokenizer in one folder.
"""

import string
from pathlib import Path

import torch
import transformers
from tiny_reviews import NEGATIVE_WORDS, NEUTRAL_WORDS, POSITIVE_WORDS
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

MAX_POSITIONS = 128
SPECIAL_TOKENS = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
WORD_ENDINGS = ("ed", "er", "est", "ful", "ing", "ion", "ly", "ment", "ness")
PADDING, START, END = 1, 2, 3
"""Their numbers. MPNet takes padding to be 1, whatever its config says, so it is 1 for all."""


def list_vocabulary() -> list[str]:
    """Return all word pieces; letters and digits alone make any ASCII text readable."""
    signs = [*string.ascii_lowercase, *string.digits]
    endings = [f"##{ending}" for ending in [*signs, *WORD_ENDINGS]]
    pieces = [*signs, *string.punctuation, *endings]
    words = [*NEUTRAL_WORDS, *POSITIVE_WORDS, *NEGATIVE_WORDS]
    return list(dict.fromkeys([*SPECIAL_TOKENS, *pieces, *words]))


INITIAL_SPREAD = 0.1
"""Wide enough for so few weights that a word in a review changes what the encoder says of it."""

SIZES = {
    "vocab_size": len(list_vocabulary()),
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": MAX_POSITIONS,
    "pad_token_id": PADDING,
    "initializer_range": INITIAL_SPREAD,
}

_ROBERTA_SIZES = {
    **SIZES,
    # Positions are counted from the number of the padding token, plus one.
    "max_position_embeddings": MAX_POSITIONS + PADDING + 1,
    "bos_token_id": START,
    "eos_token_id": END,
}

CONFIG_OPTIONS = {
    "distilbert": {
        "vocab_size": SIZES["vocab_size"],
        "dim": 32,
        "hidden_dim": 64,
        "n_layers": 2,
        "n_heads": 2,
        "max_position_embeddings": MAX_POSITIONS,
        "pad_token_id": PADDING,
        "initializer_range": INITIAL_SPREAD,
    },
    "bert": SIZES,
    "roberta": _ROBERTA_SIZES,
    "electra": {**SIZES, "embedding_size": 16},
    "deberta-v2": {
        **SIZES,
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 16,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "pooler_hidden_size": 32,
    },
    "albert": {**SIZES, "embedding_size": 16},
    "modernbert": {
        **SIZES,
        "global_attn_every_n_layers": 2,
        "local_attention": 16,
        "bos_token_id": START,
        "eos_token_id": END,
        "cls_token_id": START,
        "sep_token_id": END,
    },
    "mpnet": _ROBERTA_SIZES,
    "gpt2": {
        "vocab_size": SIZES["vocab_size"],
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": MAX_POSITIONS,
        "pad_token_id": PADDING,
        "bos_token_id": START,
        "eos_token_id": END,
        "initializer_range": INITIAL_SPREAD,
    },
    "llama": {**SIZES, "num_key_value_heads": 1, "bos_token_id": START, "eos_token_id": END},
}
"""Model type -> arguments of its config."""

MODEL_TYPES = tuple(CONFIG_OPTIONS)
DECODER_TYPES = ("gpt2", "llama")
TYPES_WITH_SEGMENTS = ("bert", "electra", "albert")


def build_tiny_tokenizer(model_type: str = "distilbert") -> PreTrainedTokenizerBase:
    """Build a lower-casing WordPiece tokenizer that returns what this type of encoder takes."""
    vocab = {piece: number for number, piece in enumerate(list_vocabulary())}
    has_segments = model_type in TYPES_WITH_SEGMENTS
    kind = transformers.BertTokenizer if has_segments else transformers.DistilBertTokenizer
    return kind(vocab=vocab, do_lower_case=True, model_max_length=MAX_POSITIONS)


def build_tiny_encoder(model_type: str, folder: Path, seed: int = 0) -> Path:
    """Save a random encoder with its language-model head, and its tokenizer; return the folder.

    As with the encoders on a hub, there is no classification head in it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind = AutoModelForCausalLM if model_type in DECODER_TYPES else AutoModelForMaskedLM
        model = kind.from_config(build_tiny_config(model_type))
    model.save_pretrained(folder)
    build_tiny_tokenizer(model_type).save_pretrained(folder)
    return folder


def build_tiny_config(model_type: str) -> PreTrainedConfig:
    """Return the config of a tiny encoder of a type in `MODEL_TYPES`."""
    return transformers.AutoConfig.for_model(model_type, **CONFIG_OPTIONS[model_type])
