"""`methods` and `search`: many trainings to answer one question."""

import argparse
from typing import Any

from peft_sentiment.commands.flags import add_command, add_count_argument, build_console
from peft_sentiment.commands.run import add_run_arguments, load_run_settings
from peft_sentiment.config import METHODS

DEFAULT_TRIALS = 20
DEFAULT_VALIDATIONS = 3
DEFAULT_SEEDS = 3


def add_methods(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `methods`."""
    parser = add_command(
        commands, "methods", "train several methods alike and compare them", run_methods
    )
    parser.add_argument(
        "--methods",
        metavar="NAME,...",
        help=f"what to compare: all, or some of {', '.join(METHODS)} (docs/methods.md)",
    )
    parser.add_argument(
        "--learning-rates",
        metavar="NAME=X,...",
        help="learning rates of single methods instead of those that suit them, such as full=5e-5",
    )
    parser.add_argument(
        "--variants",
        metavar="FILE",
        help="TOML file of other named settings to compare, such as [small.adapter] and r = 4",
    )
    add_count_argument(parser, "--seeds", DEFAULT_SEEDS, "trainings of each, with seeds counted up")
    add_run_arguments(parser)


def run_methods(parsed: argparse.Namespace) -> None:
    """`peft-sentiment methods`."""
    if settings := load_run_settings(parsed):
        from peft_sentiment.experiments.cells import build_cells
        from peft_sentiment.experiments.variants import collect_variants
        from peft_sentiment.reporting.experiment_pictures import require_matplotlib

        variants = collect_variants(
            parsed.methods, parsed.learning_rates, parsed.variants, parsed.overrides
        )
        cells = build_cells(settings, variants, parsed.seeds)
        require_matplotlib()
        from peft_sentiment.experiments import methods

        methods.run_methods(settings, cells, build_console())


def add_search(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `search`."""
    parser = add_command(
        commands, "search", "try settings within ranges and keep the best", run_search
    )
    parser.add_argument(
        "--range",
        action="append",
        default=[],
        dest="ranges",
        metavar="SETTING=VALUES",
        help="a setting to vary, such as training.learning_rate=1e-4..3e-3:log, "
        "adapter.r=4,8,16 or adapter.lora_dropout=0..0.3; may be given several times",
    )
    add_count_argument(
        parser,
        "--trials",
        DEFAULT_TRIALS,
        "settings to try, those of an earlier search in this output folder among them",
    )
    add_count_argument(
        parser,
        "--validations",
        DEFAULT_VALIDATIONS,
        "validations of a trial, after each of which it is given up if it is worse than most; "
        "--eval-steps says it otherwise",
    )
    add_run_arguments(parser)


def run_search(parsed: argparse.Namespace) -> None:
    """`peft-sentiment search`."""
    if settings := load_run_settings(parsed):
        from peft_sentiment.experiments.variants import require_alone
        from peft_sentiment.training.search import require_optuna
        from peft_sentiment.training.search_ranges import parse_ranges

        require_alone(settings, "search")
        ranges = parse_ranges(parsed.ranges, settings)
        require_optuna()
        from peft_sentiment.experiments import search

        search.run_search(settings, ranges, parsed.trials, parsed.validations, build_console())
