"""A second loss for few labels: reviews of one label point one way, those of others elsewhere.

Every pair of a batch's reviews is a lesson, so that a hundred labels give thousands. It is the loss
of SetFit (Tunstall et al., 2022, https://arxiv.org/abs/2209.11055), on the mean of a review's
tokens, which sentence encoders are trained to make telling, and on the first token, which the head
reads: it learns from the means of the others.

Shapes: B reviews of a batch, T tokens of the longest of them, D width.
"""

import torch
from torch.nn.functional import normalize


def compute_contrast(
    means: torch.Tensor, firsts: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return the mean squared error of the cosines: 1 between equal labels, 0 between others.

    Args:
        means: (B, D), mean over each review's tokens of what the last layer says.
        firsts: (B, D), what it says of the first token.
        targets: (B,), labels by number.
    """
    directions = normalize(torch.cat([means, firsts]), dim=1)  # (2 B, D)
    labels = torch.cat([targets, targets])
    errors = directions @ directions.T - (labels[:, None] == labels).to(directions.dtype)
    # On the diagonal a direction meets itself: no error, and no lesson.
    return errors.square().sum() / (len(labels) * (len(labels) - 1))


def pool_states(
    states: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (B, D) means over the real tokens, and (B, D) what stands where the head reads.

    Args:
        states: (B, P + T, D), what the last layer says of a padded batch; P are virtual tokens in
            front of the text, which methods of the prompt family put there.
        mask: (B, T), 1 at real tokens; None where nothing is padded, and nothing stands in front.
    """
    if mask is None:
        return states.mean(1), states[:, 0]
    weights = mask[:, :, None].to(states.dtype)
    return (states[:, -mask.shape[1] :] * weights).sum(1) / weights.sum(1), states[:, 0]
