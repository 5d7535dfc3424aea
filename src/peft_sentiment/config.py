"""Settings: one tree of frozen records, from which flags, help, TOML and the reference are made.

Each setting is explained once, in the string below its field. Field names are those of
`transformers` (training), `peft` (adapter) and `datasets` (data). Nothing here imports torch.
"""

import ast
import dataclasses
import difflib
import functools
import inspect
import itertools
import textwrap
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from peft_sentiment.errors import SettingsError

PACKAGED_IMDB = "packaged/imdb"
PACKAGED_ROTTEN_TOMATOES = "packaged/rotten_tomatoes"
PACKAGED_DISTILBERT = "packaged/distilbert-minilm-l6"
PACKAGED_BERT = "packaged/minilm-l6"

DEFAULT_PRESET = "quickstart"

Truncation = Literal["head", "tail", "head+tail"]
"""Which part of a long review is kept."""

# Not pissa_niter_16 and its like: they start from a decomposition by chance, which peft draws anew
# when it loads the adapter, so that another model comes back than was saved.
_KNOWN_STARTS = ("gaussian", "pissa", "olora", "orthogonal")


def _require(condition: bool, name: str, value: object, need: str) -> None:
    if not condition:
        raise SettingsError(f"{name} is {value!r}, but must be {need}.")


def _require_size(name: str, value: int | str, smallest: int) -> None:
    is_size = value == "full" or (isinstance(value, int) and value >= smallest)
    _require(is_size, name, value, f'a number from {smallest} up, or "full"')


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the reviews come from, how they are split and cut."""

    dataset_name: str = PACKAGED_IMDB
    """Reviews to use when no train_file is given: packaged/imdb, packaged/rotten_tomatoes, or the
    name of a data set on the hub, such as stanfordnlp/imdb."""

    dataset_config_name: str | None = None
    """Configuration of a data set on the hub that has several."""

    dataset_revision: str | None = None
    """Branch, tag or commit of a data set on the hub."""

    train_file: str | None = None
    """A CSV, TSV, JSONL or Parquet file (by its ending) with a text and a label column. Validation
    and test reviews are split off from it where they have no file of their own."""

    validation_file: str | None = None
    """File of the validation reviews, in the form of train_file."""

    test_file: str | None = None
    """File of the test reviews, in the form of train_file; it must share no text with it."""

    text_column: str = "text"
    """Column that holds the review."""

    label_column: str = "label"
    """Column that holds the label: a name, or a whole number."""

    label_names: tuple[str, ...] | None = None
    """Names for the labels 0, 1, 2, ... of a file whose labels are numbers, in that order; or the
    labels that a file may have, in the order in which to report them."""

    train_size: int | Literal["full"] = 3000
    """Reviews to train on, or full for all that are left. Time grows in proportion; when training
    is slow, try 1000."""

    validation_size: int | Literal["full"] = 500
    """Reviews held out of the training reviews to choose the best weights by; 0 for none."""

    test_size: int | Literal["full"] = 600
    """Reviews to compare base and PEFT on. With 600 a score near 88 % is known to within 2.6
    points, with 5000 to within 0.9."""

    max_length: int = 256
    """Tokens of a review that the model reads, special tokens included. Memory and time grow with
    it; when memory is short, try 128."""

    truncation: Truncation = "head+tail"
    """Which part of a review longer than max_length is kept: its head, its tail, or a quarter from
    its head and the rest from its tail, where reviewers sum up."""

    def __post_init__(self) -> None:
        _require_size("data.train_size", self.train_size, 1)
        _require_size("data.validation_size", self.validation_size, 0)
        _require_size("data.test_size", self.test_size, 1)
        _require(self.max_length >= 8, "data.max_length", self.max_length, "at least 8")
        if self.label_names is not None:
            unique = len(set(self.label_names)) == len(self.label_names) >= 2
            _require(unique, "data.label_names", list(self.label_names), "two or more unlike names")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Which pre-trained encoder is used, and where it runs."""

    model_name_or_path: str = PACKAGED_DISTILBERT
    """Encoder: packaged/distilbert-minilm-l6 (all-MiniLM-L6-v2 in DistilBERT's form),
    packaged/minilm-l6 (the same as BERT), a local folder, or a name on the hub, such as
    distilbert-base-uncased. Only safetensors are read, and no code of a repository is run."""

    model_revision: str | None = None
    """Branch, tag or commit of a model on the hub."""

    device: str = "auto"
    """auto takes CUDA, then MPS, then the CPU; or cpu, cuda, cuda:1, mps."""

    body_dropout: bool = False
    """Use the encoder's own dropout while training. Off, because the body is frozen and the
    adapter has a dropout of its own (lora_dropout): dropout inside the attention makes
    training on a CPU several times slower, and takes the padded path (docs/performance.md)."""


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """The LoRA adapter; names and meanings are those of peft.LoraConfig."""

    r: int = 16
    """Rank of the update; the adapter's size grows in proportion. When memory is short or reviews
    are few, try 4 or 8."""

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
    """Any other argument of peft.LoraConfig, such as rank_pattern, as name=value."""

    def __post_init__(self) -> None:
        _require(self.r >= 1, "adapter.r", self.r, "at least 1")
        _require(self.lora_alpha >= 1, "adapter.lora_alpha", self.lora_alpha, "at least 1")
        is_share = 0 <= self.lora_dropout < 1
        _require(is_share, "adapter.lora_dropout", self.lora_dropout, "from 0 up to below 1")
        start = self.init_lora_weights
        is_known = isinstance(start, bool) or start in _KNOWN_STARTS
        needed = f"true, false, {', '.join(_KNOWN_STARTS[:-1])} or {_KNOWN_STARTS[-1]}"
        _require(is_known, "adapter.init_lora_weights", start, needed)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The training run; names and meanings are those of transformers.TrainingArguments."""

    num_train_epochs: float = 3.0
    """Passes over the training reviews; parts of a pass are allowed. When results are poor, try 5;
    when training is slow, 1."""

    learning_rate: float = 1e-3
    """Highest learning rate of adapter and head. When the loss jumps about, try a third."""

    per_device_train_batch_size: int = 16
    """Reviews in memory at once while training. When memory is short, halve it and double
    gradient_accumulation_steps: the result stays the same."""

    per_device_eval_batch_size: int = 32
    """Reviews in memory at once while scoring; it does not change the predictions."""

    gradient_accumulation_steps: int = 1
    """Batches whose gradients are added up before the weights move; every review counts the
    same."""

    max_tokens_per_batch: int = 5120
    """Tokens in memory at once on a CPU; a step with more is computed in parts, with the same
    result. When memory is short, try 2048."""

    lower_layers_cache_gb: float = 4.0
    """Where adapters sit in upper layers only (layers_to_transform), the layers below are run once
    and what they say of each review is kept on disk for the other passes, if it takes no more than
    this many gigabytes. 0 runs them every time."""

    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, slower."""

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

    seed: int = 42
    """Feeds split, head, adapter, order of the reviews and dropout."""

    def __post_init__(self) -> None:
        for name in ("num_train_epochs", "learning_rate"):
            value = getattr(self, name)
            _require(0 < value < float("inf"), f"training.{name}", value, "above 0")
        for name in (
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "max_tokens_per_batch",
            "logging_steps",
        ):
            value = getattr(self, name)
            _require(value >= 1, f"training.{name}", value, "at least 1")
        for name in (
            "weight_decay",
            "warmup_steps",
            "max_grad_norm",
            "early_stopping_patience",
            "eval_steps",
            "lower_layers_cache_gb",
            "seed",
        ):
            value = getattr(self, name)
            _require(0 <= value < float("inf"), f"training.{name}", value, "0 or more")
        _require(self.seed < 2**32, "training.seed", self.seed, "below 2**32")
        if self.fp16 and self.bf16:
            raise SettingsError("training.fp16 and training.bf16 are both on; choose one of them.")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How sure the comparison is to be."""

    confidence_level: float = 0.95
    """Share of repetitions in which an interval is to hold the true value."""

    bootstrap_samples: int = 5000
    """Resamples of the test reviews behind the interval of the improvement."""

    def __post_init__(self) -> None:
        level = self.confidence_level
        _require(0 < level < 1, "evaluation.confidence_level", level, "between 0 and 1")
        samples = self.bootstrap_samples
        _require(samples >= 100, "evaluation.bootstrap_samples", samples, "at least 100")


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """Where the results go."""

    output_dir: str = "peft_model_output"
    """Folder for settings, results, predictions and steps."""

    adapter_dir: str = "saved_peft_model"
    """Folder for the trained adapter."""

    overwrite_adapter_dir: bool = True
    """Replace an adapter that is already in adapter_dir; it is kept until the new one is
    complete. A folder with anything else in it is never replaced."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one run."""

    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    output: OutputSettings = field(default_factory=OutputSettings)

    def updated(self, values: Mapping[str, Mapping[str, Any]], where: str) -> Self:
        """Return these settings with some of them replaced.

        Args:
            values: section name -> setting name -> value, as parsed from TOML or flags.
            where: what the values come from, named in errors.

        Raises:
            SettingsError: a section or setting is unknown, or a value malformed or out of range.
        """
        changed = {}
        for section, entries in values.items():
            _require_known(section, list(SECTIONS), f"{where}: section [{section}]")
            if not isinstance(entries, Mapping):
                raise SettingsError(
                    f"{where}: {section} is {entries!r}, but must be a table of settings. "
                    f"Write it as [{section}] with one setting a line below it."
                )
            changed[section] = _replace_values(getattr(self, section), section, entries, where)
        return dataclasses.replace(self, **changed)

    def as_tables(self) -> dict[str, dict[str, Any]]:
        """Return section -> setting -> value, ready for JSON and TOML; unset ones left out."""
        tables = {}
        for section in SECTIONS:
            values = dataclasses.asdict(getattr(self, section))
            tables[section] = {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in values.items()
                if value is not None
            }
        return tables


SECTIONS: dict[str, type] = typing.get_type_hints(Settings)


@dataclass(frozen=True)
class SettingField:
    """One setting as flags, help and reference need it."""

    section: str
    name: str
    kind: Any
    default: Any
    explanation: str

    @property
    def flag(self) -> str:
        """Its flag on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def kind_is_table(self) -> bool:
        """Whether its value is a table, given as name=value."""
        return typing.get_origin(self.kind) is dict


@functools.cache
def list_setting_fields() -> tuple[SettingField, ...]:
    """Return every setting, in order of declaration."""
    return tuple(
        SettingField(section, item.name, kinds[item.name], _get_default(item), texts[item.name])
        for section, type_ in SECTIONS.items()
        for kinds, texts in [(typing.get_type_hints(type_), _read_explanations(type_))]
        for item in dataclasses.fields(type_)
    )


def _get_default(item: dataclasses.Field[Any]) -> Any:  # noqa: ANN401 - a setting of any type
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


def _read_explanations(settings_type: type) -> dict[str, str]:
    """Read the strings that stand below the fields, which Python itself does not keep."""
    source = textwrap.dedent(inspect.getsource(settings_type))
    class_body = typing.cast("ast.ClassDef", ast.parse(source).body[0]).body
    explanations = {}
    for declaration, below in itertools.pairwise(class_body):
        match declaration, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                explanations[name] = " ".join(text.split())
    return explanations


def parse_flag_value(setting: SettingField, text: str) -> object:
    """Convert what was typed after a flag.

    Raises:
        SettingsError: the text is not a value of the setting's type.
    """
    return _convert(setting.kind, text, setting.flag)


def list_presets() -> list[str]:
    """Return the names of the presets in the package."""
    folder = resources.files("peft_sentiment") / "presets"
    return sorted(Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".toml"))


def load_settings(
    preset: str = DEFAULT_PRESET,
    config_file: str | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Build the settings of a run: defaults, then preset, then TOML file, then overrides.

    Raises:
        SettingsError: a preset, file or setting does not exist or is malformed.
    """
    _require_known(preset, list_presets(), f"preset {preset!r}")
    preset_text = (resources.files("peft_sentiment") / "presets" / f"{preset}.toml").read_text()
    settings = Settings().updated(tomllib.loads(preset_text), f"preset {preset}")
    if config_file is not None:
        settings = settings.updated(_read_toml(Path(config_file)), config_file)
    return settings.updated(overrides or {}, "command line")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{path}: the settings file can't be read ({error.strerror}). "
            "Give the path of a TOML file with --config."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path}: this is not valid TOML: {error}. Correct the file."
        ) from error


def _replace_values(section: Any, name: str, entries: Mapping[str, Any], where: str) -> Any:  # noqa: ANN401 - a section of any type
    kinds = typing.get_type_hints(type(section))
    values = {}
    for key, value in entries.items():
        _require_known(key, list(kinds), f"{where}: setting {name}.{key}")
        values[key] = _convert(kinds[key], value, f"{where}: {name}.{key}")
    try:
        return dataclasses.replace(section, **values)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None


def _require_known(name: str, known: list[str], what: str) -> None:
    if name not in known:
        raise SettingsError(f"{what} does not exist. {suggest(name, known)}")


def suggest(name: str, known: list[str]) -> str:
    """Return a sentence that names what was probably meant, or else all there is."""
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {nearest[0]}?" if nearest else f"There is: {', '.join(known)}."


def _convert(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - any setting's type
    """Convert a TOML value, or the text of a flag, to a setting's type."""
    for option in list_kinds(kind):
        try:
            return _CONVERTERS[typing.get_origin(option) or option](option, value)
        except (TypeError, ValueError):
            continue
    raise SettingsError(f"{where} is {value!r}, but must be {describe_kind(kind)}.")


def list_kinds(kind: Any) -> list[Any]:  # noqa: ANN401 - any setting's type
    """Return the types that a setting may have, in the order in which to try them."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        # str takes any text, so it is tried last.
        return sorted(typing.get_args(kind), key=lambda option: option is str)
    return [kind]


def _accept(value: Any, is_valid: bool) -> Any:  # noqa: ANN401 - any setting's type
    if not is_valid:
        raise ValueError
    return value


def _convert_number(kind: Any, value: Any) -> Any:  # noqa: ANN401 - any setting's type
    is_exact = not isinstance(value, float) or kind is float
    return kind(_accept(value, is_exact and not isinstance(value, bool)))


def _convert_bool(_kind: Any, value: Any) -> Any:  # noqa: ANN401 - any setting's type
    value = {"true": True, "false": False}.get(value, value)
    return _accept(value, isinstance(value, bool))


def _convert_tuple(kind: Any, value: Any) -> Any:  # noqa: ANN401 - any setting's type
    items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
    _accept(items, isinstance(items, list | tuple))
    item_kind = typing.get_args(kind)[0]
    return tuple(_CONVERTERS[item_kind](item_kind, item) for item in items)


_CONVERTERS: dict[Any, Callable[[Any, Any], Any]] = {
    int: _convert_number,
    float: _convert_number,
    bool: _convert_bool,
    str: lambda _, value: _accept(value, isinstance(value, str)),
    tuple: _convert_tuple,
    dict: lambda _, value: dict(_accept(value, isinstance(value, Mapping))),
    Literal: lambda kind, value: _accept(value, value in typing.get_args(kind)),
    types.NoneType: lambda _, value: _accept(value, value is None),
}


def describe_kind(kind: Any) -> str:  # noqa: ANN401 - any setting's type
    """Return a setting's type in words, such as 'a whole number or "full"'."""
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    words = []
    for option in list_kinds(kind):
        origin = typing.get_origin(option)
        if option is type(None):
            continue
        if origin is Literal:
            words += [f'"{choice}"' for choice in typing.get_args(option)]
        elif origin is tuple:
            words.append("a list, with commas between")
        elif origin is dict:
            words.append("a table of name=value")
        else:
            words.append(names[option])
    return " or ".join(words)
