"""Which words spoke for a label: integrated gradients on the word embeddings, by Captum.

The path goes from the review with every word masked to the review itself; special tokens and
positions stay as they are. It is computed in float32: in bfloat16 the scores miss several percent
of what they should add up to. What is explained are the label's log-odds against all others; with
two labels that is the difference of the logits. A review that is scored in windows has its words
put in window by window. Source: M. Sundararajan and others, "Axiomatic attribution for deep
networks", ICML 2017.

Shapes: B texts along the path, W windows of a review, T tokens, C labels, D width of embeddings.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from peft_sentiment.config import Truncation
from peft_sentiment.data.batching import count_special_tokens
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
    window_length: int = 0,
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
        window_length: most tokens that are scored at once; 0 for all.
        device: where the model is.
        steps: more narrow the gap, and take longer in proportion.

    Raises:
        SettingsError: Captum is not installed.
        ModelError: the tokenizer does not tell where its tokens stand.
    """
    attribution = load_attribution()
    tokenized = [tokenize_with_words(text, tokenizer, max_length, truncation) for text in texts]
    special_tokens = count_special_tokens(tokenizer)
    explanations = []
    with evaluation_mode(model), frozen(model):
        for text, tokens, row in zip(texts, tokenized, predictions.probabilities, strict=True):
            place = int(row.argmax())
            windows, shares = tokens.divide(window_length, special_tokens)
            paths = build_paths(windows, shares, tokenizer, device)
            label, confidence = predictions.label_names[place], float(row[place])
            for refined in (steps, 2 * steps, 4 * steps):
                parts = integrate_windows(attribution, model, paths, place, refined)
                explanation = build_explanation(text, label, confidence, windows, *parts)
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


@dataclass(frozen=True)
class WindowPath:
    """A window of a review on its way from masked words to its own.

    Attributes:
        start: (1, T) ids with every word masked.
        end: (1, T) ids of the window.
        share: its weight in what all windows say.
    """

    start: torch.Tensor
    end: torch.Tensor
    share: float


def build_paths(
    windows: Sequence[SpannedTokens],
    shares: Sequence[float],
    tokenizer: Any,  # noqa: ANN401 - any tokenizer of transformers
    device: torch.device,
) -> list[WindowPath]:
    """Return the path of each window.

    Args:
        windows: of one review.
        shares: of each of them.
        tokenizer: that has made them.
        device: where the model is.
    """
    return [
        WindowPath(
            torch.from_numpy(mask_words(window, tokenizer))[None].to(device),
            torch.from_numpy(window.ids)[None].to(device),
            share,
        )
        for window, share in zip(windows, shares, strict=True)
    ]


def integrate_windows(
    attribution: Any,  # noqa: ANN401 - a class of an optional library
    model: nn.Module,
    paths: Sequence[WindowPath],
    label: int,
    steps: int,
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return each token's part in a label's log-odds, and these at both ends of the path.

    The windows go from their start to their end one after the other.

    Args:
        attribution: Captum's class.
        model: a sequence-classification model.
        paths: of W windows.
        label: number of the label.
        steps: points along the path of each window.

    Returns:
        Parts of all tokens, window by window, and log-odds at start and end.
    """

    def compute_logits(ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(input_ids=ids).logits.float()
        return logits

    with torch.no_grad():
        starts = [path.share * compute_logits(path.start) for path in paths]  # (1, C) each
        ends = [path.share * compute_logits(path.end) for path in paths]
    said, parts = torch.stack(starts).sum(dim=0), []
    first = float(compute_log_odds(said, label))
    for path, start, end in zip(paths, starts, ends, strict=True):
        others = said - start
        parts.append(integrate_gradients(attribution, model, path, others, label, steps))
        said = others + end
    return np.concatenate(parts), (first, float(compute_log_odds(said, label)))


def compute_log_odds(logits: torch.Tensor, label: int) -> torch.Tensor:
    """Return (B,) log-odds of a label against all others, of (B, C) logits."""
    others = [place for place in range(logits.shape[1]) if place != label]
    return logits[:, label] - logits[:, others].logsumexp(dim=1)


def integrate_gradients(
    attribution: Any,  # noqa: ANN401 - a class of an optional library
    model: nn.Module,
    path: WindowPath,
    others: torch.Tensor,
    label: int,
    steps: int,
) -> NDArray[np.float64]:
    """Return (T,), each token's part in what a window's path adds to a label's log-odds.

    Args:
        attribution: Captum's class.
        model: a sequence-classification model.
        path: of the window.
        others: (1, C), what the other windows say, by their shares.
        label: number of the label.
        steps: points along the path.
    """

    def follow(ids: torch.Tensor) -> torch.Tensor:
        logits = model(input_ids=ids).logits.float()  # (B, C)
        return compute_log_odds(others + path.share * logits, label)

    embeddings = model.get_input_embeddings()  # type: ignore[operator]
    gradients = attribution(follow, embeddings)
    batch_size = max(1, MOST_TOKENS // path.end.shape[1])
    parts = gradients.attribute(
        path.end, path.start, n_steps=steps, internal_batch_size=batch_size
    )  # (1, T, D)
    scores: NDArray[np.float64] = parts[0].sum(dim=1).double().cpu().numpy()
    return scores


def build_explanation(
    text: str,
    label: str,
    confidence: float,
    windows: Sequence[SpannedTokens],
    scores: NDArray[np.float64],
    ends: tuple[float, float],
) -> Explanation:
    """Join the tokens' scores to words.

    Args:
        text: the review.
        label: the label that is explained.
        confidence: its probability.
        windows: what was read of the text.
        scores: each token's part, window by window.
        ends: log-odds of the masked and of the real review.
    """
    spans = windows[0].words
    places = np.concatenate([window.word_places for window in windows])
    is_word = places >= 0
    sums = np.zeros(len(spans))
    np.add.at(sums, places[is_word], scores[is_word])
    read = set(places.tolist())
    words = tuple(
        WordScore(start, end, float(sums[place]) if place in read else None)
        for place, (start, end) in enumerate(spans)
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
