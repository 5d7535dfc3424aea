"""`evaluate`, `compare`, `predict` and `verify`: what is done with what has been saved."""

import argparse
import sys
from pathlib import Path
from typing import Any

from peft_sentiment.commands.flags import (
    DEFAULT_ADAPTER,
    DEFAULT_RUN,
    REVIEW_FILES,
    SCORING_SETTINGS,
    TEST_DATA_SETTINGS,
    TEXT_FILE_SETTINGS,
    Parser,
    add_adapter_argument,
    add_command,
    add_run_folder,
    add_setting_flags,
    build_console,
    list_settings,
)
from peft_sentiment.config import load_settings
from peft_sentiment.data.utf8 import is_utf8
from peft_sentiment.errors import SettingsError
from peft_sentiment.files import require_other_file


def add_evaluate(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `evaluate`."""
    parser = add_command(commands, "evaluate", "score a saved adapter", run_evaluation)
    add_adapter_argument(parser)
    parser.add_argument("--output", help="Parquet file for the predictions of each review")
    add_setting_flags(parser, list_settings(*TEST_DATA_SETTINGS, *SCORING_SETTINGS))


def add_compare(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `compare`."""
    parser = add_command(commands, "compare", "compare finished runs", run_comparison)
    parser.add_argument(
        "runs",
        nargs="*",
        default=[DEFAULT_RUN],
        metavar="RUN",
        help=f"output folders; one shows its own comparison (default: {DEFAULT_RUN})",
    )
    add_setting_flags(parser, list_settings("confidence_level", "bootstrap_samples"))


def add_predict(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `predict`."""
    parser = add_command(commands, "predict", "label texts", run_prediction)
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="or a text a line on stdin")
    parser.add_argument("--adapter", default=DEFAULT_ADAPTER, metavar="DIR", help="saved adapter")
    parser.add_argument("--file", help=REVIEW_FILES)
    parser.add_argument("--output", help="CSV, TSV, JSONL or Parquet file for the labels")
    add_engine_arguments(parser)
    parser.add_argument(
        "--explain", action="store_true", help="show which words spoke for each label, and against"
    )
    add_setting_flags(parser, list_settings(*TEXT_FILE_SETTINGS, *SCORING_SETTINGS))


def add_engine_arguments(parser: Parser) -> None:
    """Add what scores any number of files by several workers."""
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray labels files of any number and size by several workers, on this machine or on a "
        "cluster: --file is then a file, folder, glob or address, and --output a folder "
        "(default: local)",
    )
    parser.add_argument(
        "--ray-address", metavar="TEXT", help="of a running Ray, or auto (default: a local one)"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="with --engine ray (default: one a core or GPU)"
    )
    parser.add_argument(
        "--key-column",
        metavar="TEXT",
        help="with --engine ray: column that tells the rows apart (default: file and row)",
    )
    parser.add_argument(
        "--rows-per-part",
        type=int,
        default=2000,
        metavar="N",
        help="with --engine ray: rows that are stored, and done again if lost, together "
        "(default: 2000)",
    )


def add_errors(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `errors`."""
    parser = add_command(commands, "errors", "where the model of a finished run errs", run_errors)
    add_run_folder(parser)


def add_verify(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `verify`."""
    parser = add_command(
        commands, "verify", "check that a saved adapter is what was trained", run_verification
    )
    add_adapter_argument(parser)
    parser.add_argument(
        "--file",
        help=f"reviews to compare on: {REVIEW_FILES} (default: some of the packaged ones)",
    )
    names = ("model_name_or_path", "model_revision")
    add_setting_flags(parser, list_settings(*TEXT_FILE_SETTINGS, *names))


def run_evaluation(parsed: argparse.Namespace) -> None:
    """`peft-sentiment evaluate`."""
    from peft_sentiment.saved_runs import evaluate_adapter

    output = Path(parsed.output) if parsed.output else None
    test_file = parsed.overrides.get("data", {}).get("test_file")
    if output is not None and test_file is not None:
        require_other_file(output, Path(test_file))
    evaluate_adapter(Path(parsed.adapter), parsed.overrides, build_console(), output)


def run_comparison(parsed: argparse.Namespace) -> None:
    """`peft-sentiment compare`."""
    settings = load_settings(overrides=parsed.overrides).evaluation
    if len(parsed.runs) == 1 and parsed.overrides:
        raise SettingsError(
            "A single run is shown with the intervals it was stored with. Name two runs or more, "
            "or leave the settings out."
        )
    from peft_sentiment.saved_runs import compare_runs

    compare_runs([Path(run) for run in parsed.runs], build_console(), settings)


THRESHOLDS = ("min_precision", "undecided_share")
"""Settings by which reviews are left undecided."""


def run_prediction(parsed: argparse.Namespace) -> None:
    """`peft-sentiment predict`."""
    if parsed.engine == "ray":
        run_ray_prediction(parsed)
        return
    from peft_sentiment.data.bad_rows import BadRows
    from peft_sentiment.data.texts import iterate_texts

    data = load_settings(overrides=parsed.overrides).data
    bad = BadRows(data.skip_bad_rows)
    texts = iterate_texts(parsed.texts, parsed.file, data, sys.stdin, bad)
    output = Path(parsed.output) if parsed.output else None
    if output is not None and parsed.file is not None:
        require_other_file(output, Path(parsed.file))
    if parsed.explain and output is not None:
        raise SettingsError("--explain writes to the console only; leave out --output.")
    if parsed.explain and not parsed.overrides.get("evaluation", {}).keys().isdisjoint(THRESHOLDS):
        raise SettingsError(
            "--explain explains the most probable label of every review. Leave out --min-precision "
            "and --undecided-share."
        )
    from peft_sentiment.labelling import explain_texts, predict_texts
    from peft_sentiment.skipping import report_skipped

    adapter, console = Path(parsed.adapter), build_console()
    if parsed.explain:
        explain_texts(adapter, texts, parsed.overrides, console)
    else:
        predict_texts(adapter, texts, parsed.overrides, console, output)
    report_skipped(console, bad.found, output)


def run_ray_prediction(parsed: argparse.Namespace) -> None:
    """`peft-sentiment predict --engine ray`."""
    if parsed.texts or parsed.explain or not parsed.file or not parsed.output:
        raise SettingsError(
            "--engine ray labels files: name them with --file and a folder for the labels with "
            "--output, and leave out texts and --explain."
        )
    if parsed.workers is not None and parsed.workers < 1:
        raise SettingsError(f"--workers is {parsed.workers}, but must be at least 1.")
    data = load_settings(overrides=parsed.overrides).data
    if not is_utf8(data.encoding) or data.delimiter is not None:
        raise SettingsError(
            "--engine ray reads UTF-8, and CSV and TSV files by their ending. Leave --encoding and "
            "--delimiter out, and convert the files."
        )
    from peft_sentiment.scale.jobs import run_job
    from peft_sentiment.scale.records import Columns
    from peft_sentiment.scale.scoring import Job, Pool

    overrides = {name: table for name, table in parsed.overrides.items() if name != "data"}
    columns = Columns(data.text_column, parsed.key_column)
    job = Job(
        adapter=str(Path(parsed.adapter).resolve()),
        overrides=overrides,
        pattern=parsed.file,
        columns=columns,
        output=parsed.output,
        rows=parsed.rows_per_part,
    )
    run_job(job, Pool(parsed.ray_address, parsed.workers), build_console())


def run_errors(parsed: argparse.Namespace) -> None:
    """`peft-sentiment errors`."""
    from peft_sentiment.insight import show_run_errors

    show_run_errors(Path(parsed.run), build_console())


def run_verification(parsed: argparse.Namespace) -> None:
    """`peft-sentiment verify`."""
    from peft_sentiment.data.bad_rows import BadRows
    from peft_sentiment.data.texts import iterate_texts

    data, console = load_settings(overrides=parsed.overrides).data, build_console()
    texts, bad = None, BadRows(data.skip_bad_rows)
    if parsed.file is not None:
        texts = list(iterate_texts([], parsed.file, data, sys.stdin, bad))
    from peft_sentiment.skipping import report_skipped
    from peft_sentiment.verification import verify_adapter

    report_skipped(console, bad.found, None)
    verify_adapter(Path(parsed.adapter), texts, parsed.overrides, console)
