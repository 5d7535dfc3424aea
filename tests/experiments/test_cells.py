"""A cell is found again by all that its figures depend on, and by nothing else."""

from pathlib import Path
from typing import Any

import pytest

from peft_sentiment.config import METHODS, load_settings
from peft_sentiment.errors import OutputError, SettingsError
from peft_sentiment.evaluation.method_comparison import CellFailure
from peft_sentiment.experiments.cells import (
    Cell,
    build_cells,
    load_cell,
    load_failure,
    load_request,
    save_failure,
    save_request,
)
from peft_sentiment.experiments.variants import Overrides, collect_variants, parse_methods

Tables = dict[str, dict[str, Any]]


def build(tables: Tables | None = None, variant: Tables | None = None) -> Cell:
    settings = load_settings(overrides=tables or {})
    (cell,) = build_cells(settings, {"lora": variant or {"adapter": {"method": "lora"}}}, 1)
    return cell


@pytest.mark.parametrize(
    ("tables", "variant"),
    [
        ({"training": {"learning_rate": 0.5}}, None),
        ({"training": {"seed": 7}}, None),
        ({"data": {"train_size": 7}}, None),
        ({"model": {"body_dropout": True}}, None),
        ({"evaluation": {"calibrate": False}}, None),
        (None, {"adapter": {"r": 2}}),
        (None, {"adapter": {"method_options": {"lora_bias": True}}}),
    ],
)
def test_other_settings_make_another_cell(tables: Tables | None, variant: Tables | None) -> None:
    assert build(tables, variant).key != build().key


@pytest.mark.parametrize(
    "tables",
    [
        {"output": {"output_dir": "elsewhere", "adapter_dir": "there"}},
        {"evaluation": {"confidence_level": 0.9}},
        {"training": {"logging_steps": 3}},
    ],
)
def test_settings_that_no_figure_depends_on_make_the_same_cell(tables: Tables) -> None:
    assert build(tables).key == build().key


def test_another_file_of_the_same_name_makes_another_cell(reviews_csv: Path) -> None:
    tables: Tables = {"data": {"train_file": str(reviews_csv)}}
    before = build(tables).key
    assert build(tables).key == before
    reviews_csv.write_text(reviews_csv.read_text(encoding="utf-8") + "new,negative\n", "utf-8")
    assert build(tables).key != before


def test_a_data_file_that_is_missing_is_named() -> None:
    with pytest.raises(OutputError, match=r"nowhere\.csv: the file can't be read"):
        build({"data": {"train_file": "nowhere.csv"}})


def test_cells_are_every_variant_with_every_seed_on_one_split() -> None:
    cells = build_cells(load_settings(), parse_methods("lora,ia3"), 3)
    assert [(cell.name, cell.seed) for cell in cells] == [
        ("lora", 42), ("ia3", 42), ("lora", 43), ("ia3", 43), ("lora", 44), ("ia3", 44),
    ]  # fmt: skip
    assert {cell.split_seed for cell in cells} == {42}
    assert len({cell.key for cell in cells}) == 6


@pytest.mark.parametrize("name", METHODS)
def test_a_cell_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    (cell,) = build_cells(load_settings(), parse_methods(name), 1)
    folder = cell.find_folder(tmp_path)
    folder.mkdir()
    save_request(cell, folder)
    assert load_request(folder) == cell


def test_a_failure_is_read_as_it_was_written_and_forgotten_by_the_next_try(tmp_path: Path) -> None:
    failure = CellFailure("lora", 42, "SettingsError", "no such layer")
    save_failure(failure, tmp_path)
    assert load_failure(tmp_path) == failure
    save_request(build(), tmp_path)
    assert load_failure(tmp_path) is None


def test_results_that_are_damaged_are_refused(tmp_path: Path) -> None:
    assert load_cell(tmp_path) is None
    (tmp_path / "results.json").write_text("{}", encoding="utf-8")
    with pytest.raises(OutputError, match="not the results of this version"):
        load_cell(tmp_path)


def test_all_names_every_method() -> None:
    assert tuple(parse_methods("all")) == METHODS


def test_methods_and_variants_stand_side_by_side_with_learning_rates_of_their_own(
    tmp_path: Path,
) -> None:
    path = tmp_path / "variants.toml"
    path.write_text("[small.adapter]\nr = 2\n[small.training]\nweight_decay = 0.0\n", "utf-8")
    assert collect_variants("lora, full", "full=5e-5,small=0.5", str(path), {}) == {
        "lora": {"adapter": {"method": "lora"}},
        "full": {"adapter": {"method": "full"}, "training": {"learning_rate": 5e-5}},
        "small": {"adapter": {"r": 2}, "training": {"weight_decay": 0.0, "learning_rate": 0.5}},
    }


def test_a_typed_learning_rate_is_for_every_method_and_a_preset_s_for_its_own() -> None:
    settings = load_settings("few-labels")

    def list_rates(typed: Overrides) -> list[float]:
        variants = collect_variants("lora,bitfit,ia3", "ia3=0.5", None, typed)
        cells = build_cells(settings.varied(typed, "test"), variants, 1)
        return [cell.settings.training.learning_rate for cell in cells]

    assert list_rates({}) == [0.0, 3e-3, 0.5]
    assert list_rates({"training": {"learning_rate": 0.1}}) == [0.1, 0.1, 0.5]


@pytest.mark.parametrize(
    "variant", [{"training": {"companion": "tfidf"}}, {"data": {"unlabelled": "more.txt"}}]
)
def test_what_is_for_runs_alone_is_refused(variant: Tables) -> None:
    with pytest.raises(SettingsError, match="is for run and train; methods and search"):
        build(variant=variant)


REFUSED = [
    ((None, None, ""), "There is nothing to compare"),
    (("lora,ia33", None, ""), "there is no method 'ia33'. Did you mean ia3?"),
    (("lora,lora", None, ""), "lora stands there twice"),
    (("lora", "full=1e-3", ""), "'full' is not compared"),
    (("lora", "lora=fast", ""), "'lora=fast' must be name=number"),
    (("lora", None, "[lora.adapter]\nr = 2"), "lora is a method in --methods too"),
    ((None, None, "[a.data]\ntrain_size = 2"), "[a.data] is the same for all that are compared"),
    ((None, None, "[a.training]\nseed = 2"), "a.training.seed is the same for all"),
    ((None, None, "['../a'.adapter]\nr = 2"), "a name has letters"),
    ((None, None, "a = 2"), "a must hold sections of settings"),
    ((None, None, "[a"), "not valid TOML"),
]


@pytest.mark.parametrize(("given", "words"), REFUSED)
def test_what_can_t_be_compared_is_refused(
    given: tuple[str | None, str | None, str], words: str, tmp_path: Path
) -> None:
    methods, rates, text = given
    path = tmp_path / "variants.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as error:
        collect_variants(methods, rates, str(path) if text else None, {})
    assert words in str(error.value)


def test_a_variant_s_misspelt_setting_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(SettingsError, match=r"variant lora: setting adapter\.rr does not"):
        build(variant={"adapter": {"rr": 2}})
