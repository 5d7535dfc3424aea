"""Settings: one explanation each, one order of precedence, and nonsense refused by name."""

import collections
import dataclasses
import typing
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from peft_sentiment.config import (
    SECTIONS,
    SettingField,
    Settings,
    list_presets,
    list_setting_fields,
    load_settings,
    parse_flag_value,
)
from peft_sentiment.errors import SettingsError

FIELDS = list_setting_fields()


def write_toml(folder: Path, tables: dict[str, Any]) -> str:
    path = folder / "settings.toml"
    path.write_text(tomli_w.dumps(tables), encoding="utf-8")
    return str(path)


def find_field(name: str) -> SettingField:
    return next(item for item in FIELDS if item.name == name)


@pytest.mark.parametrize("item", FIELDS, ids=lambda item: item.name)
def test_every_setting_is_explained_in_a_sentence(item: SettingField) -> None:
    assert len(item.explanation.split()) >= 3
    assert item.explanation[0].isalnum()
    assert item.explanation.endswith(".")


@pytest.mark.parametrize("item", FIELDS, ids=lambda item: item.name)
def test_a_default_that_is_shown_is_the_one_that_holds(item: SettingField) -> None:
    assert item.default == getattr(getattr(load_settings(), item.section), item.name)


def test_no_two_sections_share_a_setting_name() -> None:
    counts = collections.Counter(item.name for item in FIELDS)
    assert [name for name, count in counts.items() if count > 1] == []


def test_every_field_of_every_section_is_listed() -> None:
    declared = [
        (section, item.name)
        for section, kind in SECTIONS.items()
        for item in dataclasses.fields(kind)
    ]
    assert [(item.section, item.name) for item in FIELDS] == declared


@pytest.mark.parametrize("preset", list_presets())
def test_every_preset_loads(preset: str) -> None:
    settings = load_settings(preset)
    assert settings.as_tables().keys() == SECTIONS.keys()


def test_the_default_preset_needs_no_network() -> None:
    settings = load_settings()
    assert settings.data.dataset_name.startswith("packaged/")
    assert settings.model.model_name_or_path.startswith("packaged/")


def test_the_hub_preset_has_the_classic_settings() -> None:
    settings = load_settings("distilbert-imdb")
    assert settings.data.dataset_name == "stanfordnlp/imdb"
    assert settings.model.model_name_or_path == "distilbert-base-uncased"
    adapter, training = settings.adapter, settings.training
    assert (adapter.r, adapter.lora_alpha, adapter.lora_dropout) == (16, 32, 0.1)
    assert adapter.target_modules == ("q_lin", "v_lin")
    assert (training.num_train_epochs, training.learning_rate) == (3.0, 3e-4)
    assert training.per_device_train_batch_size == 16


def test_a_file_overrides_the_preset_and_a_flag_overrides_the_file(tmp_path: Path) -> None:
    config = write_toml(tmp_path, {"training": {"learning_rate": 0.5, "seed": 7}})
    settings = load_settings("distilbert-imdb", config, {"training": {"seed": 8}})
    assert settings.training.seed == 8
    assert settings.training.learning_rate == 0.5
    assert settings.data.max_length == 512


@pytest.mark.parametrize(
    ("adapter", "training", "rate"),
    [
        ({"method": "full"}, {}, 0.0),
        ({"method": "full"}, {"seed": 3}, 0.0),
        ({"method": "full"}, {"learning_rate": 0.5}, 0.5),
        ({"method": "bitfit"}, {}, 3e-3),
        ({}, {}, 3e-3),
    ],
)
def test_a_preset_s_learning_rate_is_for_its_own_method(
    adapter: dict[str, object], training: dict[str, object], rate: float, tmp_path: Path
) -> None:
    given = {"adapter": adapter, "training": training}
    assert load_settings("few-labels", None, given).training.learning_rate == rate
    settings = load_settings("few-labels", write_toml(tmp_path, given))
    assert settings.training.learning_rate == rate
    assert settings.training.head_learning_rate == 2.5e-5


def test_an_unset_file_and_no_flags_leave_the_preset_as_it_is(tmp_path: Path) -> None:
    assert load_settings("minilm", write_toml(tmp_path, {})) == load_settings("minilm")


@pytest.mark.parametrize(
    ("tables", "found", "nearest"),
    [
        ({"trainning": {"seed": 1}}, "[trainning]", "training"),
        ({"training": {"lerning_rate": 1}}, "training.lerning_rate", "learning_rate"),
        ({"adapter": {"target_module": 1}}, "adapter.target_module", "target_modules"),
        ({"data": {"trainsize": 1}}, "data.trainsize", "train_size"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest_one(
    tmp_path: Path, tables: dict[str, Any], found: str, nearest: str
) -> None:
    config = write_toml(tmp_path, tables)
    with pytest.raises(SettingsError) as refused:
        load_settings(config_file=config)
    assert config in str(refused.value)
    assert found in str(refused.value)
    assert f"Did you mean {nearest}?" in str(refused.value)


def test_a_misspelt_preset_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(SettingsError, match=r"'quickstar'.*Did you mean quickstart"):
        load_settings("quickstar")


def test_a_name_like_no_other_is_refused_with_all_there_are() -> None:
    with pytest.raises(
        SettingsError, match="There is: accurate, distilbert-imdb, few-labels, minilm, quickstart"
    ):
        load_settings("xyz")


def test_a_setting_outside_of_any_section_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"section \[seed\] does not exist"):
        load_settings(config_file=write_toml(tmp_path, {"seed": 1}))


def test_a_section_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"data is 3, but must be a table.*\[data\]"):
        load_settings(config_file=write_toml(tmp_path, {"data": 3}))


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"[data\n", "not valid TOML"), (b"\xff\xfe", "not valid TOML"), (None, "can't be read")],
)
def test_a_file_that_is_no_toml_is_refused_by_name(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "settings.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=problem) as refused:
        load_settings(config_file=str(path))
    assert str(path) in str(refused.value)


NONSENSE: list[tuple[str, object]] = [
    ("train_size", 0),
    ("train_size", "half"),
    ("train_size", 1.5),
    ("train_size", True),
    ("validation_size", -1),
    ("test_size", 0),
    ("max_length", 7),
    ("truncation", "middle"),
    ("label_names", ["one"]),
    ("label_names", ["same", "same"]),
    ("label_names", "one,one"),
    ("r", 0),
    ("r", 8.0),
    ("lora_alpha", 0),
    ("lora_dropout", 1.0),
    ("lora_dropout", -0.1),
    ("bias", "some"),
    ("use_dora", 1),
    ("init_lora_weights", "gausian"),
    ("init_lora_weights", "pissa_niter_4"),
    ("layers_to_transform", ["first"]),
    ("method_options", "rank_pattern"),
    ("num_train_epochs", -1.0),
    ("num_train_epochs", float("inf")),
    ("learning_rate", -1e-3),
    ("learning_rate", float("nan")),
    ("learning_rate", "fast"),
    ("per_device_train_batch_size", 0),
    ("per_device_eval_batch_size", 0),
    ("gradient_accumulation_steps", 0),
    ("logging_steps", 0),
    ("weight_decay", -0.1),
    ("warmup_steps", -1),
    ("max_grad_norm", -1),
    ("early_stopping_patience", -1),
    ("eval_steps", -1),
    ("seed", -1),
    ("seed", 2**32),
    ("bf16", "maybe"),
    ("metric_for_best_model", "luck"),
    ("confidence_level", 0.0),
    ("confidence_level", 1.0),
    ("bootstrap_samples", 99),
    ("baselines", "bayes"),
    ("baselines", "tfidf,none"),
    ("baselines", "tfidf,tfidf"),
]


@pytest.mark.parametrize(("name", "value"), NONSENSE)
def test_a_value_out_of_range_is_refused_with_its_name_and_the_need(
    name: str, value: object
) -> None:
    section = find_field(name).section
    with pytest.raises(SettingsError) as refused:
        load_settings(overrides={section: {name: value}})
    message = str(refused.value)
    assert f"{section}.{name}" in message
    assert "must be" in message
    assert "command line" in message


@pytest.mark.parametrize(
    ("name", "value"),
    [("validation_size", 0), ("max_length", 8), ("lora_dropout", 0), ("warmup_steps", 0),
     ("max_grad_norm", 0), ("early_stopping_patience", 0), ("seed", 0), ("seed", 2**32 - 1),
     ("bootstrap_samples", 100), ("weight_decay", 0), ("train_size", "full")],
)  # fmt: skip
def test_a_value_at_the_edge_of_its_range_is_taken(name: str, value: object) -> None:
    section = find_field(name).section
    settings = load_settings(overrides={section: {name: value}})
    assert getattr(getattr(settings, section), name) == value


def test_fp16_and_bf16_together_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"fp16 and training.bf16.*choose one"):
        load_settings(overrides={"training": {"fp16": True, "bf16": True}})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("train_size", "full", "full"),
        ("train_size", "12", 12),
        ("target_modules", "q_lin, v_lin", ("q_lin", "v_lin")),
        ("layers_to_transform", "0,3", (0, 3)),
        ("init_lora_weights", "false", False),
        ("init_lora_weights", "pissa", "pissa"),
        ("learning_rate", "3e-4", 3e-4),
        ("text_column", "true", "true"),
    ],
)
def test_a_flag_is_read_as_its_settings_type(name: str, text: str, value: object) -> None:
    assert parse_flag_value(find_field(name), text) == value


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
options = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
names = st.lists(texts, min_size=2, max_size=4, unique=True)
values: dict[str, st.SearchStrategy[Any]] = {
    "train_size": st.integers(1, 10**9) | st.just("full"),
    "train_file": st.none() | texts,
    "text_column": texts,
    "label_names": st.none() | names,
    "truncation": st.sampled_from(["head", "tail", "head+tail"]),
    "target_modules": st.none() | names,
    "layers_to_transform": st.none() | st.lists(st.integers(0, 99), max_size=3),
    "init_lora_weights": st.booleans() | st.sampled_from(["gaussian", "olora"]),
    "lora_dropout": st.floats(0, 1, exclude_max=True),
    "method_options": st.dictionaries(texts, options, max_size=3),
    "num_train_epochs": st.integers(1, 100) | st.floats(1e-6, 1e6),
    "bf16": st.none() | st.booleans(),
    "seed": st.integers(0, 2**32 - 1),
    "output_dir": texts,
}


def build_overrides(chosen: dict[str, Any]) -> dict[str, dict[str, Any]]:
    overrides: dict[str, dict[str, Any]] = {}
    for name, value in chosen.items():
        overrides.setdefault(find_field(name).section, {})[name] = value
    return overrides


@pytest.fixture(scope="module")
def scratch_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


@given(chosen=st.fixed_dictionaries({}, optional=values))
def test_settings_written_as_toml_load_as_the_same_settings(
    scratch_folder: Path, chosen: dict[str, Any]
) -> None:
    settings = load_settings(overrides=build_overrides(chosen))
    assert load_settings(config_file=write_toml(scratch_folder, settings.as_tables())) == settings


@pytest.mark.parametrize("preset", list_presets())
def test_a_preset_written_as_toml_loads_as_the_same_settings(preset: str, tmp_path: Path) -> None:
    settings = load_settings(preset)
    assert load_settings(config_file=write_toml(tmp_path, settings.as_tables())) == settings


def test_settings_can_not_be_changed_in_place() -> None:
    settings = Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        typing.cast("Any", settings.training).seed = 1
    settings.updated({"training": {"seed": 1}}, "test")
    assert settings.training.seed == 42
