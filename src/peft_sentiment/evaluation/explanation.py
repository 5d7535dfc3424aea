"""Which words spoke for a label: integrated gradients on the word embeddings, by Captum.

The path goes from the review with every word masked to the review itself; special tokens and
positions stay as they are. It is computed in float32: in bfloat16 the scores miss several percent
of what they should add up to. What is explained are the label's log-odds against all others; with
two labels that is the difference of the logits. Source: M. Sundararajan and others, "Axiomatic
attribution for deep networks", ICML 2017.

Shapes: B reviews along the path, T tokens, C labels, D width of the embeddings.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from peft_sentiment.config import Truncation
from peft_sentiment.data.spans import SpannedTokens, tokenize_with_words
from peft_sentiment.errors import build_missing_error
from peft_sentiment.evaluation.prediction import evaluation_mode
from peft_sentiment.records import Predictions
from peft_sentiment.records.explanation import Explanation, WordScore

STEPS = 32
"""Points at which the gradient is taken along the path (Gauss-Legendre)."""

WIDEST_GAP = 0.05
"""Share of the difference that the scores may miss. Where it is more, as where a label hangs in the
balance, the steps are doubled, twice at most."""

MOST_TOKENS = 4096
"""Tokens in memory at once."""


def explain_reviews(
    model: nn.Module,
    tokenizer: Any,  # noqa: ANN401 - any tokenizer of transformers
    texts: Sequence[str],
    predictions: Predictions,
    *,
    max_length: int,
    truncation: Truncation,
    device: torch.device,
    steps: int = STEPS,
) -> list[Explanation]:
    """Explain the most probable label of each review.

    Args:
        model: a sequence-classification model.
        tokenizer: the one it was trained with.
        texts: N reviews.
        predictions: what the model says of them, in their order.
        max_length: tokens read of a review.
        truncation: which part of a longer review they are.
        device: where the model is.
        steps: more narrow the gap, and take longer in proportion.

    Raises:
        SettingsError: Captum is not installed.
        ModelError: the tokenizer does not tell where its tokens stand.
    """
    attribution = load_attribution()
    tokenized = [tokenize_with_words(text, tokenizer, max_length, truncation) for text in texts]
    explanations = []
    with evaluation_mode(model), frozen(model):
        for text, tokens, row in zip(texts, tokenized, predictions.probabilities, strict=True):
            place = int(row.argmax())
            ids = [torch.from_numpy(x)[None] for x in (mask_words(tokens, tokenizer), tokens.ids)]
            path = ids[0].to(device), ids[1].to(device)
            label, confidence = predictions.label_names[place], float(row[place])
            for refined in (steps, 2 * steps, 4 * steps):
                parts = integrate_gradients(attribution, model, path, place, refined)
                explanation = build_explanation(text, label, confidence, tokens, *parts)
                if explanation.gap <= WIDEST_GAP:
                    break
            explanations.append(explanation)
    return explanations


def load_attribution() -> Any:  # noqa: ANN401 - a class of an optional library
    """Return Captum's class for the gradients along a path through a layer's output.

    Raises:
        SettingsError: Captum is not installed.
    """
    try:
        from captum.attr import LayerIntegratedGradients
    except ImportError as error:
        raise build_missing_error("Explanations need", "Captum", "explain") from error
    return LayerIntegratedGradients


def mask_words(
    tokens: SpannedTokens,
    tokenizer: Any,  # noqa: ANN401 - any tokenizer of transformers
) -> NDArray[np.int64]:
    """Return (T,) ids with every token of a word masked, or padding where there is no mask."""
    masks = (tokenizer.mask_token_id, tokenizer.pad_token_id)
    mask = next(token for token in masks if token is not None)
    return np.where(tokens.word_places < 0, tokens.ids, mask)


def integrate_gradients(
    attribution: Any,  # noqa: ANN401 - a class of an optional library
    model: nn.Module,
    path: tuple[torch.Tensor, torch.Tensor],
    label: int,
    steps: int,
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return each token's part in a label's log-odds, and the log-odds at both ends of the path.

    Args:
        attribution: Captum's class.
        model: a sequence-classification model.
        path: (1, T) ids of its start and its end.
        label: number of the label.
        steps: points along the path.

    Returns:
        (T,) parts, and log-odds at start and end.
    """

    def compute_log_odds(ids: torch.Tensor) -> torch.Tensor:
        logits = model(input_ids=ids).logits.float()  # (B, C)
        others = [place for place in range(logits.shape[1]) if place != label]
        log_odds: torch.Tensor = logits[:, label] - logits[:, others].logsumexp(dim=1)
        return log_odds

    start, end = path
    embeddings = model.get_input_embeddings()  # type: ignore[operator]
    gradients = attribution(compute_log_odds, embeddings)
    batch_size = max(1, MOST_TOKENS // end.shape[1])
    parts = gradients.attribute(end, start, n_steps=steps, internal_batch_size=batch_size)
    # (1, T, D)
    with torch.inference_mode():
        ends = tuple(float(compute_log_odds(ids)) for ids in path)
    return parts[0].sum(dim=1).double().cpu().numpy(), (ends[0], ends[1])


def build_explanation(
    text: str,
    label: str,
    confidence: float,
    tokens: SpannedTokens,
    scores: NDArray[np.float64],
    ends: tuple[float, float],
) -> Explanation:
    """Join the tokens' scores to words.

    Args:
        text: the review.
        label: the label that is explained.
        confidence: its probability.
        tokens: what was read of the text.
        scores: (T,), each token's part.
        ends: log-odds of the masked and of the real review.
    """
    is_word = tokens.word_places >= 0
    sums = np.zeros(len(tokens.words))
    np.add.at(sums, tokens.word_places[is_word], scores[is_word])
    read = set(tokens.word_places.tolist())
    words = tuple(
        WordScore(start, end, float(sums[place]) if place in read else None)
        for place, (start, end) in enumerate(tokens.words)
    )
    difference = ends[1] - ends[0]
    missed = abs(float(sums.sum()) - difference)
    return Explanation(
        text=text,
        label=label,
        confidence=confidence,
        log_odds=ends[1],
        baseline_log_odds=ends[0],
        gap=missed / abs(difference) if difference else 0.0,
        words=words,
    )


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Ask for no gradients of weights, and put every weight back as it was."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in trained:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)
