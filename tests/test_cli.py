"""The command line: every command explains itself, and every flag reaches its setting."""

import io
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

import peft_sentiment
from peft_sentiment import cli
from peft_sentiment.cli import main, parse_arguments
from peft_sentiment.commands import run
from peft_sentiment.config import (
    DataSettings,
    SettingField,
    Settings,
    list_setting_fields,
    load_settings,
)
from peft_sentiment.data.bad_rows import BadRows
from peft_sentiment.data.texts import iterate_texts

ROOT = Path(__file__).parents[1]
COMMANDS = (
    "run", "train", "evaluate", "compare", "errors", "report", "push", "export", "predict", "demo",
    "serve", "verify", "check", "methods", "search", "doctor",
)  # fmt: skip
FIELDS = list_setting_fields()

FLAGS: list[tuple[list[str], str, object]] = [
    (["--train-size", "full"], "train_size", "full"),
    (["--train-size", "12"], "train_size", 12),
    (["--train-size=12"], "train_size", 12),
    (["--train-size", "12", "--train-size", "13"], "train_size", 13),
    (["--train-file", "my reviews.csv"], "train_file", ("my reviews.csv",)),
    (["--train-file", "a,b", "--train-file-weights", "1,2"], "train_file_weights", (1.0, 2.0)),
    (["--label-names", "bad, good"], "label_names", ("bad", "good")),
    (["--target-modules", "all-linear"], "target_modules", ("all-linear",)),
    (["--layers-to-transform", "0,2"], "layers_to_transform", (0, 2)),
    (["--truncation", "head+tail"], "truncation", "head+tail"),
    (["--learning-rate", "3e-4"], "learning_rate", 3e-4),
    (["--num-train-epochs", "2"], "num_train_epochs", 2.0),
    (["--init-lora-weights", "gaussian"], "init_lora_weights", "gaussian"),
    (["--init-lora-weights", "false"], "init_lora_weights", False),
    (["--use-dora"], "use_dora", True),
    (["--use-dora", "--no-use-dora"], "use_dora", False),
    (["--no-load-best-model-at-end"], "load_best_model_at_end", False),
    (["--no-overwrite-adapter-dir"], "overwrite_adapter_dir", False),
    ([], "bf16", None),
    (["--bf16"], "bf16", True),
    (["--no-bf16"], "bf16", False),
    (["--method-option", "lora_bias=true"], "method_options", {"lora_bias": True}),
    (["--method-option", "layers_pattern=layer"], "method_options", {"layers_pattern": "layer"}),
    (
        ["--method-option", "rank_pattern={q_lin = 4}", "--method-option", "revision=a=b"],
        "method_options",
        {"rank_pattern": {"q_lin": 4}, "revision": "a=b"},
    ),
]


def load(arguments: list[str]) -> Settings:
    parsed = parse_arguments(["run", *arguments])
    return load_settings(parsed.preset, parsed.config, parsed.overrides)


def find_value(settings: Settings, name: str) -> object:
    section = next(item.section for item in FIELDS if item.name == name)
    return getattr(getattr(settings, section), name)


def read_help(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--help"])
    assert end.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = read_help(capsys, [])
    assert [command for command in COMMANDS if f" {command} " not in text] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = read_help(capsys, [command])
    assert text.startswith(f"usage: peft-sentiment {command} ")


def test_every_command_there_is_is_tested_here() -> None:
    actions = cli.build_parser()._actions
    choices = next(action.choices for action in actions if action.choices is not None)
    assert tuple(choices) == COMMANDS


@pytest.mark.parametrize("command", ["run", "train"])
def test_the_help_explains_every_setting_in_its_own_words(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Lines long enough that argparse breaks no word at its hyphens.
    monkeypatch.setenv("COLUMNS", "2000")
    text = read_help(capsys, [command])
    missing = [i.name for i in FIELDS if i.flag not in text or i.explanation not in text]
    assert missing == []


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"peft-sentiment {peft_sentiment.__version__}\n"


@pytest.mark.parametrize(("arguments", "name", "value"), FLAGS)
def test_a_flag_reaches_its_setting(arguments: list[str], name: str, value: object) -> None:
    found = find_value(load(arguments), name)
    assert found == value
    assert type(found) is type(value)


VALUES_BY_KIND = {str: "other", int: "64", float: "0.5"}
VALUES_BY_NAME = {
    "train_size": "full",
    "unlabelled_size": "full",
    "shuffle_buffer_size": "64",
    "pseudo_label_share": "0.25",
    "validation_size": "1",
    "test_size": "1",
    "truncation": "head",
    "encoding": "cp1252",
    "delimiter": "tab",
    "label_names": "bad,good",
    "method": "ia3",
    "quantization": "8bit",
    "bias": "all",
    "init_lora_weights": "olora",
    "layers_to_transform": "1",
    "method_options": "lora_bias=true",
    "crop_length": "64",
    "crop_tail_share": "0.25",
    "weight_averaging": "0.25",
    "class_weights": "balanced",
    "metric_for_best_model": "f1",
    "bootstrap_samples": "100",
    "baselines": "none",
    "companion": "tfidf",
    "min_precision": "0.9",
    "undecided_share": "0.2",
    "near_duplicates": "drop",
    "report_to": "tensorboard",
}


def build_flag(item: SettingField) -> list[str]:
    """Return a flag with a value that is not the setting's default."""
    if bool in typing.get_args(item.kind) and str not in typing.get_args(item.kind):
        return [item.flag]
    if item.kind is bool:
        return [f"--no-{item.flag.removeprefix('--')}" if item.default else item.flag]
    value = VALUES_BY_NAME.get(item.name) or VALUES_BY_KIND.get(item.kind, "other")
    return [item.flag, value]


@pytest.mark.parametrize(
    "item",
    # The weights of files are refused without the files, and streaming what is packaged.
    [item for item in FIELDS if item.name not in ("train_file_weights", "streaming")],
    ids=lambda item: item.name,
)
def test_every_setting_has_a_flag_that_changes_it_alone(item: SettingField) -> None:
    arguments = build_flag(item)
    before, after = load([]).as_tables(), load(arguments).as_tables()
    assert after[item.section].pop(item.name) != before[item.section].pop(item.name, None)
    assert after == before


@pytest.mark.parametrize("arguments", [flags for flags, _, _ in FLAGS])
@pytest.mark.parametrize("preset", ["quickstart", "distilbert-imdb"])
def test_a_dry_run_prints_a_file_that_gives_the_same_settings(
    arguments: list[str], preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--preset", preset, *arguments]
    assert main(["run", *arguments, "--dry-run"]) == 0
    path = tmp_path / "settings.toml"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert load(["--config", str(path)]) == load(arguments)


def test_a_dry_run_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--dry-run"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_flag_overrides_the_file_and_the_file_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[training]\nseed = 7\nlearning_rate = 0.5\n", encoding="utf-8")
    settings = load(["--preset", "minilm", "--config", str(path), "--seed", "8"])
    assert (settings.training.seed, settings.training.learning_rate) == (8, 0.5)
    assert settings.model.model_name_or_path == "packaged/minilm-l6"


REFUSED = [
    ("run --lerning-rate 1", "`peft-sentiment run`. Did you mean --learning-rate?"),
    ("run --lerning-rate=1", "Did you mean --learning-rate?"),
    ("evaluate --test-siez 1", "`peft-sentiment evaluate`. Did you mean --test-size?"),
    ("run --train 1", "--train is not an argument"),
    ("run reviews.csv", "reviews.csv is not an argument"),
    ("run --preset quickstar", "Did you mean quickstart?"),
    ("run --train-size", "expected one argument. See: peft-sentiment run --help"),
    (
        "run --train-size many",
        '--train-size is \'many\', but must be a whole number or "full" or "auto".',
    ),
    ("run --learning-rate fast", "--learning-rate is 'fast', but must be a number."),
    ("run --truncation middle", '"head" or "tail" or "head+tail"'),
    ("run --r 0", "adapter.r is 0, but must be at least 1."),
    ("run --method-option lora_bias", "is 'lora_bias', but must be name=value."),
    ("run --use-dora=yes", "--use-dora"),
    ("run --config nowhere.toml", "nowhere.toml: the settings file can't be read"),
    ("rnu", "invalid choice: 'rnu'"),
    ("", "COMMAND"),
    ("predict text --file texts.csv", "Give texts as arguments or with --file, not both."),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_a_mistyped_command_line_ends_with_one_message(
    arguments: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert words in shown.err
    assert shown.err.startswith("peft-sentiment: ")
    assert shown.err.count("\n") == 1


def test_no_text_at_all_is_refused_where_a_person_types(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin = io.StringIO()
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["predict"]) == 2
    assert "There is no text to label" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "Standard input is empty"), (b"good\n\nbad\n", "input, line 2: the text is empty"),
     (b"good\ncaf\xe9\n", "not UTF-8")],
)  # fmt: skip
def test_nonsense_on_standard_input_is_refused(
    data: bytes, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
    assert main(["predict"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "encoding", "texts"),
    [
        ("\ufeffgood film\nsecond\n".encode(), "utf-8", ["good film", "second"]),
        ("café\n".encode("cp1252"), "cp1252", ["café"]),
        ("café\nso\n".encode("utf-16"), "utf-16", ["café", "so"]),
        (b"good\n\ncaf\xe9\nbad\n", "utf-8", ["good", "bad"]),
    ],
)
def test_standard_input_is_read_as_a_file_is(data: bytes, encoding: str, texts: list[str]) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
    bad = BadRows(are_skipped=True)
    found = list(iterate_texts([], None, DataSettings(encoding=encoding), stdin, bad))
    assert found == texts
    assert len(bad.found) == (2 if b"\n\n" in data else 0)


def test_half_a_character_in_a_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "good \udcff"]) == 2
    assert "Text 1 is not UTF-8 (character 6" in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> None:  # noqa: ANN401
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "load_settings", interrupt)
    assert main(["run", "--dry-run"]) == 130
    assert capsys.readouterr().err == "peft-sentiment: stopped; nothing was changed.\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:  # noqa: ANN401
        raise ZeroDivisionError

    monkeypatch.setattr(run, "load_settings", fail)
    with pytest.raises(ZeroDivisionError):
        main(["run", "--dry-run"])


def run_program(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


@pytest.mark.parametrize("arguments", [[], ["--preset", "minilm", "--seed", "7", "--use-dora"]])
def test_the_script_is_the_run_command(arguments: list[str]) -> None:
    script = str(ROOT / "peft_sentiment_analysis.py")
    by_script = run_program(script, *arguments, "--dry-run")
    by_command = run_program("-m", "peft_sentiment.cli", "run", *arguments, "--dry-run")
    assert by_script == by_command
    assert "[training]" in by_script


def test_a_reader_that_stops_early_gets_no_traceback() -> None:
    command = f"{sys.executable} -m peft_sentiment.cli run --help | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("usage: peft-sentiment run")
    assert done.stderr == ""


def test_a_console_that_lacks_a_letter_is_no_reason_to_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", shown)
    assert main(["run", "--dry-run", "--train-file", "naïve.csv"]) == 0
    assert isinstance(shown.buffer, io.BytesIO)
    assert b"na\\xefve.csv" in shown.buffer.getvalue()
