"""A range is what it says, or is refused before anything is trained."""

import pytest

from peft_sentiment.config import Settings, load_settings
from peft_sentiment.errors import SettingsError
from peft_sentiment.training.search_ranges import (
    SearchRange,
    build_tables,
    parse_range,
    parse_ranges,
)

SETTINGS = load_settings()


def test_an_interval_of_numbers_keeps_its_ends_and_its_scale() -> None:
    found = parse_range("training.learning_rate=1e-4..3e-3:log")
    assert (found.name, found.low, found.high, found.is_log) == (
        "training.learning_rate", 1e-4, 3e-3, True,
    )  # fmt: skip
    assert not parse_range("adapter.lora_dropout=0..0.3").is_log


def test_an_interval_of_whole_numbers_has_whole_ends() -> None:
    found = parse_range("adapter.r=4..64:log")
    assert (found.low, found.high) == (4, 64)
    assert isinstance(found.low, int)
    assert isinstance(found.high, int)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("adapter.r=4,8,16", [4, 8, 16]),
        ("adapter.r=4|8", [4, 8]),
        ("adapter.use_dora=true,false", [True, False]),
        ("data.truncation=head, head+tail", ["head", "head+tail"]),
        ("data.train_size=100,full", [100, "full"]),
        ("adapter.target_modules=q_lin,v_lin|all-linear", [("q_lin", "v_lin"), ("all-linear",)]),
        ("adapter.layers_to_transform=4,5|5", [(4, 5), (5,)]),
    ],
)
def test_choices_have_the_setting_s_own_type(text: str, values: list[object]) -> None:
    found = parse_range(text)
    assert [found.convert(choice) for choice in found.choices] == values


@pytest.mark.parametrize("text", ["adapter.r=4,8", "training.warmup_steps=0..0.2"])
def test_every_value_of_a_range_makes_settings(text: str) -> None:
    (item,) = parse_ranges([text], SETTINGS)
    assert isinstance(apply(item), Settings)


def apply(item: SearchRange) -> Settings:
    value = item.convert(item.choices[0]) if item.choices else item.low
    return SETTINGS.updated(build_tables({item.name: value}), "test")


REFUSED = [
    ([], "There is nothing to search"),
    (["adapter.r"], "a range is SETTING=LOW..HIGH"),
    (["adapter.r="], "a range is SETTING=LOW..HIGH"),
    (["adapter.rr=4,8"], "there is no such setting. Did you mean adapter.r?"),
    (["r=4,8"], "there is no such setting. Did you mean adapter.r?"),
    (["training.lerning_rate=1e-4..1e-3"], "Did you mean training.learning_rate?"),
    (["adapter.r=4,many"], "adapter.r is 'many', but must be a whole number"),
    (["adapter.r=4.5..8"], "adapter.r is '4.5', but must be a whole number"),
    (["adapter.r=0,8"], "adapter.r is 0, but must be at least 1"),
    (["adapter.lora_dropout=0..1"], "adapter.lora_dropout is 1.0"),
    (["adapter.lora_dropout=0..0.3:log"], "must begin above 0"),
    (["training.learning_rate=1e-4..1e-3:linear"], "the only scale is :log"),
    (["training.learning_rate=1e-3..1e-4"], "0.001 must be below 0.0001"),
    (["adapter.r=8"], "name two values or more"),
    (["adapter.r=8,8"], "name two values or more"),
    (["data.truncation=head..tail"], "--range data.truncation=head..tail"),
    (["data.train_size=100..full"], "data.train_size is no number"),
    (["adapter.r=4,8", "adapter.r=2,4"], "--range adapter.r is given 2 times"),
    (["training.seed=1,2"], "it decides which reviews are the validation reviews"),
    (["training.companion=none,tfidf"], "trials train the adapter alone"),
    (["training.eval_steps=1,2"], "would flatter a trial"),
    (["data.validation_size=100,200"], "trials on other reviews can't be compared"),
    (["data.train_file=a.csv,b.csv"], "trials on other reviews can't be compared"),
    (["output.output_dir=a,b"], "it does not change what is learned"),
    (["adapter.method_options=a=1,b=2"], "it is a table"),
]


@pytest.mark.parametrize(("texts", "words"), REFUSED)
def test_a_range_that_makes_no_sense_is_refused(texts: list[str], words: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_ranges(texts, SETTINGS)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
