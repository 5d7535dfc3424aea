"""Settings: one tree of frozen records, from which flags, help, TOML and the reference are made.

Each setting is explained once, in the string below its field. Field names are those of
`transformers` (training), `peft` (adapter) and `datasets` (data). Nothing here imports torch.
"""

from peft_sentiment.config.conversion import describe_kind, list_kinds
from peft_sentiment.config.data import (
    PACKAGED_IMDB,
    PACKAGED_ROTTEN_TOMATOES,
    USUAL_SIZES,
    DataSettings,
    Truncation,
)
from peft_sentiment.config.evaluation import EvaluationSettings, OutputSettings
from peft_sentiment.config.fields import (
    SettingField,
    list_setting_fields,
    parse_flag_value,
    read_setting_fields,
)
from peft_sentiment.config.model import (
    LORA_METHODS,
    METHODS,
    PACKAGED_BERT,
    PACKAGED_DISTILBERT,
    PACKAGED_MEAN,
    PACKAGED_MODELS,
    UNTARGETED_METHODS,
    AdapterSettings,
    ModelSettings,
)
from peft_sentiment.config.service import SERVICE_SECTION, ServiceSettings
from peft_sentiment.config.training import TrainingSettings
from peft_sentiment.config.tree import (
    DEFAULT_PRESET,
    SECTIONS,
    Settings,
    list_presets,
    load_settings,
)

__all__ = [
    "DEFAULT_PRESET",
    "LORA_METHODS",
    "METHODS",
    "PACKAGED_BERT",
    "PACKAGED_DISTILBERT",
    "PACKAGED_IMDB",
    "PACKAGED_MEAN",
    "PACKAGED_MODELS",
    "PACKAGED_ROTTEN_TOMATOES",
    "SECTIONS",
    "SERVICE_SECTION",
    "UNTARGETED_METHODS",
    "USUAL_SIZES",
    "AdapterSettings",
    "DataSettings",
    "EvaluationSettings",
    "ModelSettings",
    "OutputSettings",
    "ServiceSettings",
    "SettingField",
    "Settings",
    "TrainingSettings",
    "Truncation",
    "describe_kind",
    "list_kinds",
    "list_presets",
    "list_setting_fields",
    "load_settings",
    "parse_flag_value",
    "read_setting_fields",
]
