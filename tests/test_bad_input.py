"""Whatever is wrong with what a user gives: one message that helps, and nothing is lost.

A message says where, what was found, what is needed and what to do; the words of each that matter
are named here. A finished run stands where each command is to write, and must survive it.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hub.client import HubClient
from tiny_reviews import build_tiny_reviews, write_reviews_csv
from tiny_runs import TinyRun, read_folder

from peft_sentiment.cli import main
from peft_sentiment.errors import OutputError
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.records.reviews import Reviews

Refuse = Callable[..., str]

REVIEWS = build_tiny_reviews()
NEEDED_SECONDS = 20.0
"""For an answer without a hub; its clients would try for minutes."""


@pytest.fixture
def refuse(tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """`refuse(arguments, words)` runs a command that must fail as users deserve it."""

    def run(arguments: Iterable[object], words: Iterable[str]) -> str:
        before = tiny_run.read_files()
        assert len(before) > 5
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        message = capsys.readouterr().err
        assert code == 2
        assert message.startswith("peft-sentiment: ")
        assert message.count("\n") == 1
        assert message.endswith((".\n", "?\n"))
        assert "Traceback" not in message
        assert [word for word in words if word not in message] == []
        assert tiny_run.read_files() == before
        return message

    return run


def write_csv(folder: Path, rows: Iterable[str | bytes], name: str = "reviews.csv") -> Path:
    """Write the tiny reviews with rows of one's own behind them, from line 202 on."""
    path = write_reviews_csv(folder / name, REVIEWS)
    extra = [row.encode() if isinstance(row, str) else row for row in rows]
    path.write_bytes(path.read_bytes() + b"".join(row + b"\r\n" for row in extra))
    return path


def change_file(path: Path, change: Callable[[bytes], bytes | None]) -> None:
    """Replace a file's bytes, or remove it."""
    content = change(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)


def remove(_: bytes) -> None:
    return None


def truncate(content: bytes) -> bytes:
    return content[: len(content) * 3 // 4]


def empty(_: bytes) -> bytes:
    return b""


def garble(_: bytes) -> bytes:
    return b"\xff{[" * 100


CHANGES = (remove, truncate, empty, garble)


# Reviews


def test_a_missing_file(tiny_run: TinyRun, refuse: Refuse, tmp_path: Path) -> None:
    path = tmp_path / "nowhere.csv"
    refuse([*tiny_run.arguments, "--train-file", path], [f"{path}: no such file", "Check the path"])


def test_a_missing_column(tiny_run: TinyRun, refuse: Refuse) -> None:
    words = [f"{tiny_run.reviews}, line 1", "no column 'texts' (found: text, label)",
             "Did you mean text?", "--text-column"]  # fmt: skip
    refuse([*tiny_run.arguments, "--text-column", "texts"], words)


def test_an_unknown_label(tiny_run: TinyRun, refuse: Refuse) -> None:
    words = [f"{tiny_run.reviews}, line 2", "'negative'", "not one of bad, good",
             "Correct the row", "--label-names"]  # fmt: skip
    refuse([*tiny_run.arguments, "--label-names", "bad,good"], words)


def test_a_label_that_only_the_test_file_has(
    tiny_run: TinyRun, refuse: Refuse, tmp_path: Path
) -> None:
    rows = Reviews(["One film.", "Two films."], ["positive", "great"])
    path = write_reviews_csv(tmp_path / "test.csv", rows)
    words = [f"{path}, line 3", "'great'", "negative, positive", "Correct the row"]
    refuse([*tiny_run.arguments, "--test-file", path, "--test-size", "full"], words)


@pytest.mark.parametrize("text", ["", '"  "', "<br />"])
def test_an_empty_text(tiny_run: TinyRun, refuse: Refuse, tmp_path: Path, text: str) -> None:
    path = write_csv(tmp_path, [f"{text},positive"])
    words = [f"{path}, line 202", "text is empty", "Write one, or remove the row"]
    refuse([*tiny_run.arguments, "--train-file", path], words)


def test_a_missing_label(tiny_run: TinyRun, refuse: Refuse, tmp_path: Path) -> None:
    path = write_csv(tmp_path, ["A film., "])
    words = [f"{path}, line 202", "label is missing", "Add one, or remove"]
    refuse([*tiny_run.arguments, "--train-file", path], words)


def test_reviews_of_one_class_only(tiny_run: TinyRun, refuse: Refuse, tmp_path: Path) -> None:
    path = write_reviews_csv(tmp_path / "r.csv", Reviews(REVIEWS.texts, ["positive"] * 200))
    words = [str(path), "only positive", "two labels or more", "Add reviews"]
    refuse([*tiny_run.arguments, "--train-file", path], words)


def test_test_reviews_of_one_class_only(tiny_run: TinyRun, refuse: Refuse, tmp_path: Path) -> None:
    rows = Reviews([f"Film {n}." for n in range(50)], ["positive"] * 50)
    path = write_reviews_csv(tmp_path / "test.csv", rows)
    words = ["All 40 test reviews have the label positive", "add test reviews"]
    refuse([*tiny_run.arguments, "--test-file", path], words)


def test_a_file_that_is_not_utf_8(tiny_run: TinyRun, refuse: Refuse, tmp_path: Path) -> None:
    path = write_csv(tmp_path, ["One film.,positive", "Café.,positive".encode("latin-1")])
    words = [f"{path}, line 203", "0xe9", "not UTF-8", "Save the file as UTF-8"]
    refuse([*tiny_run.arguments, "--train-file", path], words)


@pytest.mark.parametrize(
    ("line", "words"),
    [('{"text": "Cut off', ["not a JSON object"]), ('["text", "label"]', ["must be an object"]),
     ('{"text": "One film."}', ["no column 'label' (found: text)"])],
)  # fmt: skip
def test_a_broken_line_of_json(
    tiny_run: TinyRun, refuse: Refuse, tmp_path: Path, line: str, words: list[str]
) -> None:
    path = tmp_path / "reviews.jsonl"
    pairs = zip(REVIEWS.texts, REVIEWS.labels, strict=True)
    rows = [json.dumps({"text": text, "label": label}) for text, label in pairs]
    path.write_text("\n".join([*rows[:10], line, *rows[10:]]), encoding="utf-8")
    refuse([*tiny_run.arguments, "--train-file", path], [f"{path}, line 11", *words])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("A film, and more,positive", ["the row has 3 fields, but the header 2", "quotes"]),
        ("A film without a label", ["the row has 1 fields, but the header 2"]),
        ('"A film,positive', ["the row that starts here is broken", "quotes"]),
        ('"A "good" film",positive', ["the row that starts here is broken", "double"]),
        ("A\0film,positive", ["NUL byte", "Save the file as UTF-8"]),
    ],
)
def test_a_broken_row_of_csv(
    tiny_run: TinyRun, refuse: Refuse, tmp_path: Path, row: str, words: list[str]
) -> None:
    path = write_csv(tmp_path, [row])
    refuse([*tiny_run.arguments, "--train-file", path], [f"{path}, line 202", *words])


@pytest.mark.parametrize("name", ["reviews.parquet", "reviews.xlsx", "reviews"])
def test_a_file_that_is_not_what_its_ending_says(
    tiny_run: TinyRun, refuse: Refuse, tmp_path: Path, name: str
) -> None:
    path = write_csv(tmp_path, [], name)
    refuse([*tiny_run.arguments, "--train-file", path], [str(path), "can't be read"])


def test_fewer_reviews_than_asked_for(tiny_run: TinyRun, refuse: Refuse) -> None:
    words = ["1,000 for train", "40 for test", "20 for validation", "there are 200 reviews",
             "Lower --train-size", "--train-size full"]  # fmt: skip
    refuse([*tiny_run.arguments, "--train-size", 1000], words)


def test_a_test_file_that_shares_reviews_with_the_training(
    tiny_run: TinyRun, refuse: Refuse, tmp_path: Path
) -> None:
    path = write_reviews_csv(tmp_path / "test.csv", REVIEWS.take(range(100, 160)))
    words = [str(path), str(tiny_run.reviews), "60 texts", "line 2 is line 102", "remove"]
    refuse([*tiny_run.arguments, "--test-file", path], words)


def test_a_test_file_without_a_train_file(tiny_run: TinyRun, refuse: Refuse) -> None:
    words = ["--test-file is given without --train-file"]
    refuse(["run", *tiny_run.settings, "--test-file", tiny_run.reviews], words)


# Adapters


def predict(adapter: Path, *arguments: object) -> list[object]:
    return ["predict", "A good film.", "--adapter", adapter, "--no-bf16", *arguments]


@pytest.fixture
def adapter_copy(tiny_run: TinyRun, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run.adapter, tmp_path / "copy"))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "name",
    ["adapter_config.json", "adapter_model.safetensors", "peft_sentiment.json", "tokenizer.json",
     "tokenizer_config.json"],
)  # fmt: skip
def test_an_adapter_with_a_file_missing_or_damaged(
    refuse: Refuse, adapter_copy: Path, name: str, change: Callable[[bytes], bytes | None]
) -> None:
    change_file(adapter_copy / name, change)
    words = [str(adapter_copy), "Copy the folder again"]
    missing = [name] if change is remove else []
    refuse(predict(adapter_copy), [*words, *missing])


def test_every_file_of_an_adapter_is_needed_and_tested_here(finished_tiny_run: TinyRun) -> None:
    # README.md, the model card, is for people.
    assert sorted(set(read_folder(finished_tiny_run.adapter)) - {"README.md"}) == [
        "adapter_config.json", "adapter_model.safetensors", "peft_sentiment.json",
        "seen_reviews.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def test_an_adapter_of_a_later_format(refuse: Refuse, adapter_copy: Path) -> None:
    path = adapter_copy / "peft_sentiment.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, "format_version": 99}), encoding="utf-8")
    refuse(predict(adapter_copy), [str(path), "99", "needed is 1"])


@pytest.mark.parametrize("model_type", ["distilbert", "bert"])
def test_an_adapter_for_another_base(
    tiny_run: TinyRun,
    refuse: Refuse,
    tmp_path: Path,
    build_tiny_encoder: Callable[..., Path],
    model_type: str,
) -> None:
    other = build_tiny_encoder(model_type, tmp_path / "other", seed=1)
    words = [str(tiny_run.adapter), f"made for {tiny_run.base}", f"{other} has other weights",
             "--model-name-or-path"]  # fmt: skip
    refuse(predict(tiny_run.adapter, "--model-name-or-path", other), words)


@pytest.mark.parametrize("command", ["evaluate", "demo"])
def test_an_adapter_folder_that_is_not_there(refuse: Refuse, tmp_path: Path, command: str) -> None:
    path = tmp_path / "nowhere"
    words = [f"{path}: no such adapter folder", "peft-sentiment run"]
    refuse([command, path], words)
    refuse(predict(path), words)


def test_evaluation_on_reviews_that_were_trained_on(tiny_run: TinyRun, refuse: Refuse) -> None:
    words = [str(tiny_run.reviews), "80 of the 200 reviews to score", "train", "Remove them"]
    refuse(["evaluate", tiny_run.adapter, "--test-file", tiny_run.reviews, "--no-bf16"], words)


# Bases


@pytest.fixture
def base_copy(tiny_run: TinyRun, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run.base, tmp_path / "base"))


def with_base(run: TinyRun, base: Path | str) -> list[object]:
    return [*run.arguments, "--model-name-or-path", base]


@pytest.mark.parametrize("change", [truncate, empty, garble])
def test_a_base_with_damaged_weights(
    tiny_run: TinyRun, refuse: Refuse, base_copy: Path, change: Callable[[bytes], bytes]
) -> None:
    change_file(base_copy / "model.safetensors", change)
    refuse(with_base(tiny_run, base_copy), [str(base_copy), "corrupt", "Fetch the model again"])


@pytest.mark.parametrize(
    ("name", "word"), [("config.json", "config.json"), ("model.safetensors", "model weights")]
)
def test_a_base_that_lacks_a_file(
    tiny_run: TinyRun, refuse: Refuse, base_copy: Path, name: str, word: str
) -> None:
    (base_copy / name).unlink()
    refuse(with_base(tiny_run, base_copy), [str(base_copy), f"lacks {word}", "save_pretrained"])


@pytest.mark.parametrize("change", [truncate, empty, garble])
def test_a_base_with_a_damaged_config(
    tiny_run: TinyRun, refuse: Refuse, base_copy: Path, change: Callable[[bytes], bytes]
) -> None:
    change_file(base_copy / "config.json", change)
    refuse(with_base(tiny_run, base_copy), [str(base_copy), "can't be loaded", "config.json"])


def test_a_base_without_a_tokenizer(tiny_run: TinyRun, refuse: Refuse, base_copy: Path) -> None:
    for file in base_copy.glob("tokenizer*"):
        file.unlink()
    refuse(with_base(tiny_run, base_copy), [str(base_copy), "tokenizer", "tokenizer.json"])


def test_a_base_whose_config_is_of_another_size(
    tiny_run: TinyRun, refuse: Refuse, base_copy: Path
) -> None:
    change_file(
        base_copy / "config.json", lambda old: old.replace(b'"n_layers": 2', b'"n_layers": 3')
    )
    words = [str(base_copy), "lack 8 modules", "layer.2", "config.json", "fetch or save"]
    refuse(with_base(tiny_run, base_copy), words)


def test_a_folder_with_a_pickle_only(tiny_run: TinyRun, refuse: Refuse, base_copy: Path) -> None:
    (base_copy / "model.safetensors").rename(base_copy / "pytorch_model.bin")
    words = [str(base_copy), "lacks model weights", "pickle", "not read", "Convert it"]
    refuse(with_base(tiny_run, base_copy), words)


def test_an_adapter_in_place_of_a_base(tiny_run: TinyRun, refuse: Refuse) -> None:
    words = [str(tiny_run.adapter), "It is an adapter", "name a base"]
    refuse(with_base(tiny_run, tiny_run.adapter), words)


def test_a_packaged_base_by_the_wrong_name(tiny_run: TinyRun, refuse: Refuse) -> None:
    words = ["'packaged/minilm'", "packaged/distilbert-minilm-l6", "--model-name-or-path"]
    refuse(with_base(tiny_run, "packaged/minilm"), words)


# Hub


@pytest.mark.usefixtures("no_network")
def test_a_model_of_the_hub_without_a_network(tiny_run: TinyRun, refuse: Refuse) -> None:
    started = time.monotonic()
    words = ["can't be reached", "'some/model'", "HF_ENDPOINT", "--model-name-or-path"]
    refuse(with_base(tiny_run, "some/model"), words)
    assert time.monotonic() - started < NEEDED_SECONDS


@pytest.mark.usefixtures("no_network")
def test_a_data_set_of_the_hub_without_a_network(tiny_run: TinyRun, refuse: Refuse) -> None:
    started = time.monotonic()
    words = ["can't be reached", "'some/data'", "HF_ENDPOINT", "--train-file"]
    refuse(["run", *tiny_run.settings, "--dataset-name", "some/data"], words)
    assert time.monotonic() - started < NEEDED_SECONDS


def test_a_hub_that_does_not_answer(tiny_run: TinyRun, tmp_path: Path) -> None:
    """The same as users meet it: in a process of its own, with an address of nobody."""
    before = tiny_run.read_files()
    model = [*tiny_run.arguments, "--model-name-or-path", "some/model"]
    data = ["run", *tiny_run.settings, "--dataset-name", "some/data"]
    client = HubClient("http://127.0.0.1:9", tmp_path / "client")
    code = f"from peft_sentiment.cli import main; print(main({model}), main({data}))"
    done = client.run_python(code)
    assert done.stdout.endswith("\n2 2\n")
    of_model, of_data = done.stderr.splitlines()
    assert "'some/model'" in of_model
    assert "'some/data'" in of_data
    for message in (of_model, of_data):
        assert "http://127.0.0.1:9" in message
        assert "can't be reached" in message
    assert tiny_run.read_files() == before


@pytest.mark.parametrize(
    ("name", "word"), [("not a name", "--train-file"), ("packaged/imbd", "packaged/imdb?")]
)
def test_a_data_set_name_that_can_not_be_one(
    tiny_run: TinyRun, refuse: Refuse, name: str, word: str
) -> None:
    refuse(["run", *tiny_run.settings, "--dataset-name", name], [f"'{name}'", word])


# Settings


SETTINGS: list[tuple[str, list[str]]] = [
    ("--lerning-rate 1", ["--lerning-rate", "Did you mean --learning-rate?"]),
    ("--max-length 129", ["data.max_length is 129", "at most 128 tokens", "Set --max-length"]),
    (
        "--target-modules q_proj",
        ["no layer named q_proj", "--target-modules", "q_lin, k_lin, v_lin, out_lin, lin1, lin2"],
    ),
    ("--modules-to-save head", ["no module named head", "--modules-to-save", "pre_classifier"]),
    ("--fp16", ["training.fp16 is on", "needs a CUDA device", "uses cpu", "Leave it off"]),
    ("--device tpu", ["model.device is 'tpu'", "cpu", "--device"]),
    ("--device cuda:99", ["model.device is 'cuda:99'", "cpu", "--device"]),
    ("--layers-to-transform 7", ["adapter", "[7]"]),
    ("--init-lora-weights gausian", ["init_lora_weights is 'gausian'", "gaussian"]),
    ("--method-option rank_patern={}", ["rank_patern", "Did you mean rank_pattern?"]),
    ("--method-option rank_pattern=3", ["adapter", "peft refuses"]),
    ("--method-option r=3", ["method_options.r", "set adapter.r"]),
    ("--method-option inference_mode=true", ["inference_mode", "Leave it out"]),
    ("--test-size full --train-size full", ["--test-size full", "--train-size full", "a number"]),
]


@pytest.mark.parametrize(("flags", "words"), SETTINGS, ids=[flags for flags, _ in SETTINGS])
def test_settings_that_can_not_be(
    tiny_run: TinyRun, refuse: Refuse, flags: str, words: list[str]
) -> None:
    refuse([*tiny_run.arguments, *flags.split()], words)


def test_an_unknown_setting_in_a_file(tiny_run: TinyRun, refuse: Refuse, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[training]\nlerning_rate = 1\n", encoding="utf-8")
    words = [str(path), "training.lerning_rate", "Did you mean learning_rate?"]
    refuse([*tiny_run.arguments, "--config", path], words)


# Places to write to


@pytest.mark.parametrize("flag", ["--output-dir", "--adapter-dir"])
@pytest.mark.parametrize("below", ["", "deep/down"])
def test_a_file_in_the_place_of_a_folder(
    tiny_run: TinyRun, refuse: Refuse, tmp_path: Path, flag: str, below: str
) -> None:
    path = tmp_path / "file"
    path.write_text("precious", encoding="utf-8")
    refuse([*tiny_run.arguments, flag, path / below], [str(path), flag])
    assert path.read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("flag", ["--output-dir", "--adapter-dir"])
def test_a_folder_that_can_not_be_written_to(tiny_run: TinyRun, refuse: Refuse, flag: str) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("no /proc, the one folder that even root can't write to")
    refuse([*tiny_run.arguments, flag, "/proc/results"], ["/proc", "nothing can be written", flag])


@pytest.mark.parametrize("files", [["thesis.txt"], ["adapter_config.json", "thesis.txt"],
                                   ["tokenizer.json", "tokenizer_config.json"]])  # fmt: skip
def test_an_adapter_folder_with_something_else_in_it(
    tiny_run: TinyRun, refuse: Refuse, tmp_path: Path, files: list[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in files:
        (folder / name).write_text("{}", encoding="utf-8")
    before = read_folder(folder)
    words = [str(folder), "would be replaced", "--adapter-dir"]
    refuse([*tiny_run.arguments, "--adapter-dir", folder], words)
    assert read_folder(folder) == before


def test_a_classifier_is_not_saved_over_something_else(
    finished_tiny_run: TinyRun, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("precious", encoding="utf-8")
    classifier = SentimentClassifier.load(finished_tiny_run.adapter)
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        classifier.save(tmp_path)
    assert read_folder(tmp_path) == {"thesis.txt": b"precious"}


def test_an_adapter_that_may_not_be_overwritten(tiny_run: TinyRun, refuse: Refuse) -> None:
    words = [str(tiny_run.adapter), "an adapter already", "--overwrite-adapter-dir"]
    refuse([*tiny_run.arguments, "--no-overwrite-adapter-dir"], words)


@pytest.mark.parametrize("inner", ["", "results"])
def test_results_in_the_folder_of_the_adapter(
    tiny_run: TinyRun, refuse: Refuse, inner: str
) -> None:
    words = [str(tiny_run.adapter), "replace the results", "--adapter-dir"]
    refuse([*tiny_run.arguments, "--output-dir", tiny_run.adapter / inner], words)


# Comparisons


def test_a_comparison_with_a_folder_that_is_no_run(
    tiny_run: TinyRun, refuse: Refuse, tmp_path: Path
) -> None:
    words = [f"{tmp_path}/results.json: no such file", "no finished run", "peft-sentiment run"]
    refuse(["compare", tiny_run.output, tmp_path], words)


def test_a_comparison_of_runs_on_different_reviews(
    tiny_run: TinyRun, refuse: Refuse, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    folders = ["--output-dir", str(other), "--adapter-dir", str(tmp_path / "other-adapter")]
    assert main([*tiny_run.arguments, *folders, "--seed", "7"]) == 0
    words = [str(tiny_run.output), str(other), "different reviews", "--test-size and --seed"]
    refuse(["compare", tiny_run.output, other], words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--method", "prefix_tuning"], "it takes no keys and values from outside"),
        (["--method", "lora", "--target-modules", "q_line"], "q_line"),
        (["--method", "ln_tuning", "--linear-probing"], "training.linear_probing is on"),
        (["--method", "prompt_tuning", "--contrastive-epochs", "1"], "contrastive_epochs is 1"),
        (["--method", "p_tuning", "--max-length", "128"], "--crop-length or --max-length to 108"),
    ],
)
def test_what_the_encoder_can_not_have_is_told_before_it_is_scored(
    tiny_run: TinyRun, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*tiny_run.arguments, *flags]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert "Base:" not in told.out
