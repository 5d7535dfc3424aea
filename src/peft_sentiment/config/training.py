"""The training run."""

from dataclasses import dataclass
from typing import Literal

from peft_sentiment.config.requirements import require, require_part
from peft_sentiment.errors import SettingsError

MOST_EPOCHS = 30
"""Most passes over the training reviews that are chosen by their number."""

FEWEST_EPOCHS_OF_STRETCHES = 2
"""Fewest passes where each reads a stretch of a review: about a half of one of average length."""

TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The training run; names and meanings are those of transformers.TrainingArguments."""

    num_train_epochs: float = 3.0
    """Passes over the training reviews; parts of a pass are allowed. 0 chooses by their number, so
    that few reviews are passed over often: see reviews_to_pass. When results are poor, try 5; when
    training is slow, 1."""

    reviews_to_pass: int = 3000
    """With num_train_epochs 0: reviews that the training sees, counted once per pass. There is at
    least one pass, or two where a pass reads stretches (crop_length), and at most 30."""

    crop_length: int = 0
    """Tokens that training reads of a longer review, special tokens included: a stretch that chance
    puts elsewhere at every pass. Scoring reads max_length tokens. Short stretches train faster, and
    more passes over them learn more. 0 reads max_length tokens in training too."""

    crop_tail_share: float = 0.0
    """Share of the stretches that are the end of their review, where reviewers sum up; chance puts
    the others anywhere."""

    contrastive_epochs: float = 0.0
    """Passes of a first stage, for a hundred labels or so: the adapter learns to bring reviews of
    one label together and others apart, pair by pair, and the head is fitted to what comes of it.
    num_train_epochs then go on from there. 0 leaves it out."""

    linear_probing: bool = False
    """Begin with a head that is fitted to what the encoder says of the training reviews, by
    logistic regression, instead of a random one (linear probing, then fine-tuning). For few labels,
    with a low learning rate of matrices, or biases alone (preset few-labels)."""

    pseudo_label_share: float = 0.5
    """Share of the unlabelled reviews that is learned from: those whose label the first classifier
    is surest of, as many of each label as its share of the training reviews."""

    learning_rate: float = 0.0
    """Highest learning rate of adapter and head. 0 takes the one of the method (docs/methods.md),
    less for an encoder wider than the packaged one. When the loss jumps about, try a third."""

    head_learning_rate: float = 0.0
    """Highest learning rate of the head where the encoder is trained too. A lower one than the
    adapter's keeps it from being sure too soon of what few reviews say. 0 takes learning_rate, or
    where that is 0, too, the method's, but 2e-3 at most. The method head, which trains nothing
    else, does not read it."""

    per_device_train_batch_size: int = 16
    """Reviews in memory at once while training. When memory is short, halve it and double
    gradient_accumulation_steps: the result stays the same."""

    per_device_eval_batch_size: int = 32
    """Reviews in memory at once while scoring; it does not change the predictions."""

    gradient_accumulation_steps: int = 1
    """Batches whose gradients are added up before the weights move; every review counts the
    same."""

    max_tokens_per_batch: int = 3072
    """Tokens in memory at once on a CPU; a step with more is computed in parts, with the same
    result. When memory is short, try 2048."""

    lower_layers_cache_gb: float = 4.0
    """Where adapters sit in upper layers only (layers_to_transform), the layers below are run once
    and what they say of each review is kept on disk for the other passes, if it takes no more than
    this many gigabytes. 0 runs them every time."""

    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, slower."""

    weight_averaging: float = 0.0
    """Share of the steps, from the end, over which the trained weights are averaged; what is
    validated and saved is the average. 0 takes the weights of the last step, as does AdaLoRA, whose
    weights change their number."""

    weight_decay: float = 0.01
    """Decay of the trained weights in AdamW."""

    warmup_steps: float = 0.06
    """Steps over which the learning rate rises from 0; below 1, the share of all steps. After it
    the rate falls in a straight line to 0."""

    max_grad_norm: float = 1.0
    """Longest gradient allowed; longer ones are scaled down to it. 0 for no limit."""

    class_weights: Literal["none", "balanced"] = "none"
    """balanced lets rare labels count as much as frequent ones."""

    fp16: bool = False
    """Half precision on a CUDA GPU, for less memory and more speed; not measured here. Not for
    CPUs."""

    bf16: bool | None = None
    """bfloat16 in the matrix products. By default used where this device is measured to be faster
    with it; --bf16 and --no-bf16 decide by hand."""

    early_stopping_patience: int = 2
    """Stop after this many validations in a row without a better one; 0 never stops early."""

    load_best_model_at_end: bool = True
    """End with the weights of the best validation instead of the last ones."""

    metric_for_best_model: Literal["accuracy", "f1", "log_loss"] = "accuracy"
    """What makes a validation the best; equal ones are told apart by log_loss."""

    eval_steps: int = 0
    """Optimizer steps between validations; 0 validates after every epoch."""

    logging_steps: int = 10
    """Optimizer steps between lines of progress when the output is not a terminal."""

    companion: Literal["none", "tfidf"] = "none"
    """tfidf gives the adapter a companion: word counts with logistic regression, weighed against it
    on the validation reviews and saved with it. More accurate on reviews like those of the
    training; worse at telling what a review means from the words it uses (docs/quality.md)."""

    report_to: tuple[str, ...] = ()
    """Experiment trackers to report steps, validations and test scores to, of tensorboard, mlflow,
    wandb and trackio. The first two write into output_dir."""

    deterministic: bool = False
    """Choose nothing by measured speed (float32, unless bf16 or fp16 is on, and fused attention),
    and let torch use only algorithms that give the same result each time. Without it, two runs on
    one machine are the same bit for bit as long as its measured speeds stay in the cache; with
    it, also without the cache. The number of threads must be the same either way."""

    seed: int = 42
    """Feeds split, head, adapter, order of the reviews and dropout."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.report_to if name not in TRACKERS]
        known = f"of {', '.join(TRACKERS)}"
        require(not unknown, "training.report_to", list(self.report_to), known)
        for name in (
            "reviews_to_pass",
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "max_tokens_per_batch",
            "logging_steps",
        ):
            value = getattr(self, name)
            require(value >= 1, f"training.{name}", value, "at least 1")
        for name in (
            "learning_rate",
            "head_learning_rate",
            "num_train_epochs",
            "contrastive_epochs",
            "weight_decay",
            "warmup_steps",
            "max_grad_norm",
            "early_stopping_patience",
            "eval_steps",
            "lower_layers_cache_gb",
            "seed",
        ):
            value = getattr(self, name)
            require(0 <= value < float("inf"), f"training.{name}", value, "0 or more")
        taught = self.pseudo_label_share
        require(0 < taught <= 1, "training.pseudo_label_share", taught, "above 0, and 1 at most")
        share = self.weight_averaging
        require(0 <= share <= 1, "training.weight_averaging", share, "from 0 to 1")
        require_part("training.crop_length", self.crop_length)
        ends = self.crop_tail_share
        require(0 <= ends <= 1, "training.crop_tail_share", ends, "from 0 to 1")
        require(self.seed < 2**32, "training.seed", self.seed, "below 2**32")
        if self.fp16 and self.bf16:
            raise SettingsError("training.fp16 and training.bf16 are both on; choose one of them.")

    def choose_epochs(self, reviews: int) -> float:
        """Return the passes over so many training reviews: those set, or chosen by the number."""
        if self.num_train_epochs:
            return self.num_train_epochs
        fewest = FEWEST_EPOCHS_OF_STRETCHES if self.crop_length else 1
        return float(min(MOST_EPOCHS, max(fewest, round(self.reviews_to_pass / reviews))))
