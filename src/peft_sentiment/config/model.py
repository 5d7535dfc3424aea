"""The encoder, and the adapter that is put on it."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from peft_sentiment.config.requirements import require, require_known
from peft_sentiment.errors import SettingsError

PACKAGED_MEAN = "packaged/distilbert-minilm-l6-mean"
PACKAGED_DISTILBERT = "packaged/distilbert-minilm-l6"
PACKAGED_BERT = "packaged/minilm-l6"
PACKAGED_MODELS = (PACKAGED_MEAN, PACKAGED_DISTILBERT, PACKAGED_BERT)
"""Forms of the encoder that comes as a Python package, the default first."""

# Not pissa_niter_16 and its like: they start from a decomposition by chance, which peft draws anew
# when it loads the adapter, so that another model comes back than was saved.
_KNOWN_STARTS = ("gaussian", "pissa", "olora", "orthogonal")

LORA_METHODS = ("lora", "rslora", "dora", "lora+", "pissa", "olora", "orthogonal", "eva")
"""LoRA, and what it is called with one of its options."""

METHODS = (
    *LORA_METHODS, "adalora", "ia3", "vera", "loha", "lokr", "oft", "boft", "fourierft", "vblora",
    "randlora", "hra", "ln_tuning", "prefix_tuning", "prompt_tuning", "p_tuning", "bitfit", "head",
    "full",
)  # fmt: skip
"""Names that adapter.method may have."""

UNTARGETED_METHODS = (
    "ln_tuning", "prefix_tuning", "prompt_tuning", "p_tuning", "bitfit", "head", "full",
)  # fmt: skip
"""Methods that leave no choice of the linear layers to adapt."""

_LORA_NAMES = (
    "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "init_lora_weights",
)  # fmt: skip
_ADALORA_NAMES = ("lora_alpha", "lora_dropout")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Which pre-trained encoder is used, and where it runs."""

    model_name_or_path: str = PACKAGED_MEAN
    """Encoder: packaged/distilbert-minilm-l6-mean (all-MiniLM-L6-v2 in DistilBERT's form, with the
    mean over the tokens, for which it was trained, as a seventh layer),
    packaged/distilbert-minilm-l6 (without that layer), packaged/minilm-l6 (as a BERT), a local
    folder, or a name on the hub, such as distilbert-base-uncased. Only safetensors are read, and no
    code of a repository is run."""

    model_revision: str | None = None
    """Branch, tag or commit of a model on the hub."""

    device: str = "auto"
    """auto takes CUDA, then MPS, then the CPU; or cpu, cuda, cuda:1, mps."""

    quantization: Literal["none", "8bit", "4bit"] = "none"
    """Bits of the frozen base's weights, by bitsandbytes, for encoders that do not fit into a GPU's
    memory. On CUDA only: the kernels behind it are written for it, and elsewhere a base of 8 or 4
    bits would be slower than a whole one."""

    body_dropout: bool = False
    """Use the encoder's own dropout while training. Off, because the body is frozen, and dropout
    inside the attention makes training on a CPU several times slower and takes the padded path
    (docs/performance.md)."""


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """The adapter; names and meanings are those of peft's config classes."""

    method: str = "lora"
    """What is trained: lora, rslora, dora, lora+, pissa, olora, orthogonal, eva, adalora, ia3,
    vera, loha, lokr, oft, boft, fourierft, vblora, randlora, hra, ln_tuning, prefix_tuning,
    prompt_tuning, p_tuning, bitfit (biases only), head (nothing else) or full (every weight).
    docs/methods.md says what each is."""

    r: int = 16
    """Rank of the update; the adapter's size grows in proportion. When memory is short or reviews
    are few, try 4 or 8. This and the settings with lora in their names are for LoRA and its kin
    (AdaLoRA reads lora_alpha and lora_dropout); others take their own from method_options."""

    lora_alpha: int = 32
    """Scale of the update; it is multiplied by lora_alpha / r."""

    lora_dropout: float = 0.1
    """Share of the adapter's inputs that is dropped while training."""

    target_modules: tuple[str, ...] | None = None
    """Names of the linear layers to adapt; by default query and value of the known architectures
    (q_lin and v_lin in DistilBERT)."""

    modules_to_save: tuple[str, ...] | None = None
    """Names of the modules that are trained and saved whole; by default the classification head of
    the known architectures (pre_classifier and classifier in DistilBERT)."""

    bias: Literal["none", "all", "lora_only"] = "none"
    """Biases to train besides the adapter."""

    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(r), which suits large ranks."""

    use_dora: bool = False
    """Train size and direction of the weights apart (DoRA); slower."""

    init_lora_weights: str | bool = True
    """How the adapter starts: true (peft's default, which changes nothing), gaussian, pissa, olora
    or orthogonal."""

    layers_to_transform: tuple[int, ...] | None = None
    """Numbers of the layers to adapt, from 0; by default all."""

    method_options: dict[str, Any] = field(default_factory=dict)
    """Any other argument of the method's config class in peft, such as rank_pattern, as
    name=value; docs/methods.md names the class. The flag may be repeated."""

    def __post_init__(self) -> None:
        require_known(self.method, [*METHODS], f"adapter.method {self.method!r}")
        require(self.r >= 1, "adapter.r", self.r, "at least 1")
        require(self.lora_alpha >= 1, "adapter.lora_alpha", self.lora_alpha, "at least 1")
        is_share = 0 <= self.lora_dropout < 1
        require(is_share, "adapter.lora_dropout", self.lora_dropout, "from 0 up to below 1")
        start = self.init_lora_weights
        is_known = isinstance(start, bool) or start in _KNOWN_STARTS
        needed = f"true, false, {', '.join(_KNOWN_STARTS[:-1])} or {_KNOWN_STARTS[-1]}"
        require(is_known, "adapter.init_lora_weights", start, needed)
        if self.method in (*_KNOWN_STARTS, "eva") and start not in (True, self.method):
            raise SettingsError(
                f"adapter.method is {self.method!r}, but adapter.init_lora_weights is {start!r}: "
                "an adapter has one start. Leave one of them out."
            )


def require_settings_of_method(given: Collection[str], method: str, where: str) -> None:
    """Check that no setting of LoRA, or of layers, was given for a method that does not read it.

    Args:
        given: names of the settings of the adapter that were given.
        method: in use.
        where: what they come from.

    Raises:
        SettingsError: there is one.
    """
    read: tuple[str, ...] = _LORA_NAMES if method in LORA_METHODS else ()
    read = _ADALORA_NAMES if method == "adalora" else read
    if "target_modules" in given and method in UNTARGETED_METHODS:
        raise SettingsError(
            f"{where}: adapter.target_modules names linear layers to adapt, of which the method "
            f"{method} leaves no choice. Leave it out."
        )
    for name in given:
        if name in _LORA_NAMES and name not in read:
            raise SettingsError(
                f"{where}: adapter.{name} is a setting of LoRA, which the method {method} does not "
                f"read. Leave it out; what {method} has of its own is given by --method-option."
            )
