"""The parts in order: each reads records and writes one, last."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tomli_w
from rich.console import Console

from peft_sentiment.config import Settings
from peft_sentiment.data.bad_rows import SKIPPED_FILE, write_skipped_rows
from peft_sentiment.data.batching import LabelledTokens
from peft_sentiment.data.checks import fingerprint_texts
from peft_sentiment.data.sources import load_reviews
from peft_sentiment.data.split import split_reviews
from peft_sentiment.errors import OutputError, SettingsError
from peft_sentiment.evaluation.comparison import compare_predictions
from peft_sentiment.evaluation.metrics import compute_scores
from peft_sentiment.evaluation.pairs import compare_pairs
from peft_sentiment.evaluation.storage import PREDICTIONS_FOLDER, RESULTS_FILE, save_predictions
from peft_sentiment.evaluation.thresholds import choose_threshold, measure_calibration
from peft_sentiment.files import require_writable_folder, write_text
from peft_sentiment.inference.baselines import predict_baselines
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.inference.environment import describe_environment
from peft_sentiment.insight import store_insight
from peft_sentiment.interruptions import signals_put_off
from peft_sentiment.model.adapters import count_parameters
from peft_sentiment.model.memory import measure_peak_rss
from peft_sentiment.model.saved_adapters import require_replaceable
from peft_sentiment.processes import get_processes, working_alone
from peft_sentiment.records import (
    SCHEMA_VERSION,
    DataRecord,
    Environment,
    ParameterCounts,
    Predictions,
    Results,
    StepRecord,
    TrainingRecord,
    render_json,
)
from peft_sentiment.records.reviews import Splits
from peft_sentiment.reporting.calibration import show_calibration
from peft_sentiment.reporting.comparison import show_comparison, show_confusion
from peft_sentiment.reporting.console import (
    show_cache,
    show_foundation,
    show_heading,
    show_parameters,
    show_passes,
    show_processes,
    show_scores,
    show_training,
    show_validation,
)
from peft_sentiment.reporting.html import write_report
from peft_sentiment.reporting.model_card import write_model_card
from peft_sentiment.reporting.pairs import show_pairs
from peft_sentiment.reporting.progress import TrainingProgress
from peft_sentiment.reporting.run_files import REPORT_FILE, SETTINGS_FILE, STEPS_FILE
from peft_sentiment.reporting.skipped import show_skipped
from peft_sentiment.reporting.titles import name_model
from peft_sentiment.serving.demo import ask_for_reviews, show_samples
from peft_sentiment.serving.showcase import Showcase
from peft_sentiment.training.checkpoints import render_events
from peft_sentiment.training.fit import Event, summarize_training
from peft_sentiment.training.saving import CheckpointSaver
from peft_sentiment.training.trackers import Trackers, open_trackers
from peft_sentiment.unfinished import (
    diverged_reviews_listed,
    make_paths_absolute,
    open_checkpoints,
    outputs_locked,
    remove_unfinished,
    save_interrupted,
    told_how_to_go_on,
)


@dataclass(frozen=True)
class Run:
    """One run of the pipeline.

    Attributes:
        started: time of the clock at its start.
    """

    settings: Settings
    console: Console
    trackers: Trackers = field(default_factory=Trackers)
    clock: Callable[[], float] = time.perf_counter
    started: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True)
class Foundation:
    """What a run stands on: the split reviews and the encoder with an untrained head."""

    splits: Splits
    classifier: SentimentClassifier
    train: LabelledTokens
    validation: LabelledTokens
    data: DataRecord
    environment: Environment


@dataclass(frozen=True)
class Training:
    """A finished training."""

    parameters: ParameterCounts
    record: TrainingRecord
    events: list[Event] = field(repr=False)


def run_pipeline(settings: Settings, console: Console, resume: bool = False) -> Results:
    """Measure the base, train an adapter, compare both, store everything, show samples.

    Args:
        settings: of the run.
        console: where to show what happens.
        resume: whether to go on from where an unfinished run of these settings was stopped.

    Raises:
        PeftSentimentError: any of its kinds; what an earlier run has stored is then unchanged.
    """
    get_processes().agree(lambda: require_outputs(settings))
    with outputs_locked(settings), open_trackers(settings) as trackers:
        run = Run(settings, console, trackers)
        foundation, results = run_parts(run, resume)
        if not get_processes().is_main:
            return results
        remove_unfinished(settings)
    with working_alone():
        show_outcome(run, foundation, results)
    return results


def show_outcome(run: Run, foundation: Foundation, results: Results) -> None:
    """Show the comparison, where everything is stored, and what the model says of some reviews."""
    console = run.console
    show_heading(console, 3, "Performance comparison")
    show_results(run, results)
    show_heading(console, 4, "Demonstration")
    showcase = Showcase({"peft": foundation.classifier})
    show_samples(console, showcase)
    if console.is_terminal and sys.stdin.isatty():
        ask_for_reviews(console, showcase)
    report = Path(run.settings.output.output_dir) / REPORT_FILE
    console.print(f"Report: {report}", markup=False, highlight=False, soft_wrap=True)


def run_parts(run: Run, resume: bool) -> tuple[Foundation, Results]:
    """Do and store everything up to the comparison, going on from an unfinished run if asked to."""
    settings, console = run.settings, run.console
    show_heading(console, 1, "The foundation model")
    foundation = load_foundation(run)
    saver = open_checkpoints(settings, console, foundation, resume)
    with told_how_to_go_on(saver):
        base = score_base(run, foundation)
        baselines = score_baselines(run, foundation)
        show_heading(console, 2, "PEFT configuration and training")
        training = train_adapter(run, foundation, saver)
        predictions = {"base": base, **baselines, **score_adapter(run, foundation)}
        results = compare_models(run, foundation, training, predictions)
        for name, scores in results.models.items():
            run.trackers.log_scores(name, scores, training.record.steps)
        if get_processes().is_main:
            with working_alone():
                store_run(settings, foundation, training, predictions, results)
            write_report(Path(settings.output.output_dir))
            write_model_card(Path(settings.output.adapter_dir), results)
    return foundation, results


def run_training(settings: Settings, console: Console, resume: bool = False) -> None:
    """Train an adapter and store it, without measuring base and improvement.

    Args:
        settings: of the run.
        console: where to show what happens.
        resume: whether to go on from where an unfinished run of these settings was stopped.

    Raises:
        PeftSentimentError: any of its kinds; what an earlier run has stored is then unchanged.
    """
    get_processes().agree(lambda: require_outputs(settings))
    with outputs_locked(settings), open_trackers(settings) as trackers:
        run = Run(settings, console, trackers)
        foundation = load_foundation(run)
        saver = open_checkpoints(settings, console, foundation, resume)
        with told_how_to_go_on(saver):
            training = train_adapter(run, foundation, saver)
            score_adapter(run, foundation)
            if not get_processes().is_main:
                return
            store_training(settings, foundation, training)
        remove_unfinished(settings)
    console.print(f"Adapter: {settings.output.adapter_dir}", markup=False, highlight=False)


def require_outputs(settings: Settings) -> None:
    """Check that the results can be stored, before time is spent on them.

    Raises:
        OutputError: a folder can't be written to, or holds something that is not ours.
        SettingsError: a threshold is asked for, and there is nothing to choose it on.
    """
    output, evaluation = settings.output, settings.evaluation
    has_threshold = evaluation.min_precision is not None or evaluation.undecided_share is not None
    if has_threshold and settings.data.validation_size == 0:
        raise SettingsError(
            "data.validation_size is 0, but a threshold for undecided reviews is chosen on "
            "validation reviews. Raise it, or leave out --min-precision and --undecided-share."
        )
    adapter_dir = Path(output.adapter_dir)
    require_replaceable(adapter_dir)
    if Path(output.output_dir).resolve().is_relative_to(adapter_dir.resolve()):
        raise OutputError(
            f"{adapter_dir}: the adapter would replace the results in {output.output_dir}. "
            "Name a folder of its own with --adapter-dir."
        )
    is_full = adapter_dir.is_dir() and any(adapter_dir.iterdir())
    if is_full and not output.overwrite_adapter_dir:
        raise OutputError(
            f"{adapter_dir}: there is an adapter already. Name another folder with "
            "--adapter-dir, or allow to replace it with --overwrite-adapter-dir."
        )
    require_writable_folder(adapter_dir.resolve().parent, "--adapter-dir")
    require_writable_folder(Path(output.output_dir), "--output-dir")


def load_foundation(run: Run) -> Foundation:
    """Load and split the reviews, load the encoder, and show both."""
    start, settings = run.clock(), run.settings
    splits = split_reviews(load_reviews(settings.data), settings.data, settings.training.seed)
    classifier = SentimentClassifier.from_settings(settings)
    classifier.build_base(splits.label_names)
    classifier.prepare_companion(splits.train, splits.validation)
    parts = [splits.train, splits.validation, splits.test]
    train, validation, test = map(classifier.tokenize, parts)
    cut = sum(int(part.reviews.is_cut.sum()) for part in (train, validation, test))
    data = describe_data(splits, settings, cut)
    environment = describe_environment(classifier.precision_)
    name = settings.model.model_name_or_path
    show_foundation(run.console, environment, data, name, run.clock() - start)
    show_skipped(run.console, splits.skipped, Path(settings.output.output_dir) / SKIPPED_FILE)
    return Foundation(splits, classifier, train, validation, data, environment)


def score_base(run: Run, foundation: Foundation) -> Predictions:
    """Score the test reviews with the untrained model, and show how well."""
    test = foundation.splits.test
    with run.console.status(f"Scoring {len(test):,} test reviews"):
        predictions = foundation.classifier.predict_reviews(test.texts)
    show_model(run, foundation, "base", predictions)
    return predictions


def score_adapter(run: Run, foundation: Foundation) -> dict[str, Predictions]:
    """Score the test reviews with the trained model, and show how well.

    Where it has a companion, `adapter` is what it says without it.
    """
    test = foundation.splits.test
    with run.console.status(f"Scoring {len(test):,} test reviews"):
        parts = foundation.classifier.predict_in_parts(test.texts)
    for name, predictions in parts.items():
        show_model(run, foundation, name, predictions)
    return parts


def show_model(run: Run, foundation: Foundation, name: str, predictions: Predictions) -> None:
    """Show how well a model labels the test reviews."""
    labels, level = foundation.splits.test.labels, run.settings.evaluation.confidence_level
    show_scores(run.console, name_model(name), compute_scores(labels, predictions, level))


def score_baselines(run: Run, foundation: Foundation) -> dict[str, Predictions]:
    """Measure the baselines that the settings name on the test reviews, and show how well."""
    names, found = run.settings.evaluation.chosen_baselines, {}
    computed = predict_baselines(names, foundation.classifier, foundation.splits, foundation.train)
    with run.console.status("Measuring the baselines"):
        for name, predictions in computed:
            found[name] = predictions
            show_model(run, foundation, name, predictions)
    return found


def train_adapter(run: Run, foundation: Foundation, saver: CheckpointSaver) -> Training:
    """Put an adapter on the encoder and train it, with progress.

    Raises:
        InterruptionError: by Ctrl-C or SIGTERM; says how to go on.
        DivergenceError: the loss is no number any more; says where the reviews are listed.
    """
    classifier, settings = foundation.classifier, run.settings
    parameters = count_parameters(classifier.build_adapter(foundation.train))
    show_parameters(run.console, parameters)
    show_passes(run.console, settings.training, len(foundation.train))
    show_processes(run.console, get_processes().count, saver.identity.processes, settings.training)
    show_cache(run.console, classifier.plan_cache_bytes(foundation.train))
    events: list[Event] = list(saver.start.events) if saver.start else []
    with (
        signals_put_off() as stop,
        diverged_reviews_listed(settings, foundation.splits.train, saver),
        TrainingProgress(run.console, settings.training.logging_steps) as progress,
    ):
        saver.is_stopping = lambda: bool(stop)
        for event in classifier.iterate_fit(foundation.train, foundation.validation, saver):
            events.append(event)
            run.trackers.log_event(event)
            if isinstance(event, StepRecord):
                progress.update(event)
            else:
                show_validation(run.console, event)
    if stop or saver.is_stopped:
        raise save_interrupted(settings, classifier, events, stop)
    record = summarize_training(events, settings.training.load_best_model_at_end)
    show_training(run.console, record)
    set_threshold(run, classifier)
    return Training(parameters, record, events)


def set_threshold(run: Run, classifier: SentimentClassifier) -> None:
    """Choose the threshold that the settings ask for, to be saved with the adapter."""
    if classifier.calibration_ is None:
        return
    try:
        classifier.calibration_ = choose_threshold(classifier.calibration_, run.settings.evaluation)
    except SettingsError as error:
        # A training that is done must not be lost for it.
        run.console.print(f"{error} No review is left undecided.", markup=False, highlight=False)


def compare_models(
    run: Run, foundation: Foundation, training: Training, predictions: dict[str, Predictions]
) -> Results:
    """Make the record of the whole run from the models' predictions, by name."""
    labels, evaluation = foundation.splits.test.labels, run.settings.evaluation
    rng = np.random.default_rng(run.settings.training.seed)
    calibration = foundation.classifier.calibration_
    return Results(
        schema_version=SCHEMA_VERSION,
        status="finished",
        seconds=run.clock() - run.started,
        peak_rss_bytes=measure_peak_rss(),
        settings=run.settings.as_tables(),
        environment=foundation.environment,
        data=foundation.data,
        parameters=training.parameters,
        training=training.record,
        models={
            name: compute_scores(labels, of_model, evaluation.confidence_level)
            for name, of_model in predictions.items()
        },
        improvement=compare_predictions(
            labels, predictions["base"], predictions["peft"], evaluation, rng
        ),
        comparisons=compare_pairs(labels, predictions, evaluation, rng),
        calibration=measure_calibration(labels, predictions["peft"], calibration, evaluation, rng),
    )


def store_run(
    settings: Settings,
    foundation: Foundation,
    training: Training,
    predictions: dict[str, Predictions],
    results: Results,
) -> None:
    """Store everything; results.json comes last, so all the other files belong to it."""
    folder = Path(settings.output.output_dir)
    store_training(settings, foundation, training)
    for name, of_model in predictions.items():
        path = folder / PREDICTIONS_FOLDER / f"{name}.parquet"
        save_predictions(path, foundation.splits.test, of_model)
    store_insight(
        folder, foundation.splits, predictions, foundation.classifier, settings.evaluation
    )
    write_text(folder / RESULTS_FILE, render_json(results))


def store_training(settings: Settings, foundation: Foundation, training: Training) -> None:
    """Store the adapter, the settings, and a line for each step and validation.

    Earlier results and their report go as soon as the adapter that they speak of has been replaced.
    """
    folder = Path(settings.output.output_dir)
    seen = [*foundation.splits.train.texts, *foundation.splits.validation.texts]
    foundation.classifier.save(
        settings.output.adapter_dir, make_paths_absolute(settings), fingerprint_texts(seen)
    )
    for name in (RESULTS_FILE, REPORT_FILE, SKIPPED_FILE):
        (folder / name).unlink(missing_ok=True)
    if foundation.splits.skipped:
        write_skipped_rows(folder / SKIPPED_FILE, foundation.splits.skipped)
    write_text(folder / SETTINGS_FILE, tomli_w.dumps(settings.as_tables()))
    write_text(folder / STEPS_FILE, render_events(training.events))


def show_results(run: Run, results: Results) -> None:
    """Show the comparison, and where everything is stored."""
    output = run.settings.output
    level = run.settings.evaluation.confidence_level
    show_comparison(run.console, results.models, results.improvement, level)
    show_pairs(run.console, results.comparisons, level)
    show_confusion(run.console, results.models["peft"], results.data.label_names)
    show_calibration(run.console, results.calibration)
    for what, place in (
        ("Adapter", output.adapter_dir),
        ("Results", Path(output.output_dir) / RESULTS_FILE),
    ):
        run.console.print(f"{what}: {place}", markup=False, highlight=False)


def describe_data(splits: Splits, settings: Settings, cut: int) -> DataRecord:
    """Make the record of the reviews in use, of which `cut` were longer than the model reads."""
    return DataRecord(
        name=splits.name,
        sha256=splits.sha256,
        train=len(splits.train),
        validation=len(splits.validation),
        test=len(splits.test),
        duplicates_removed=splits.duplicates_removed,
        label_names=splits.label_names,
        label_counts={name: list(splits.train.labels).count(name) for name in splits.label_names},
        max_length=settings.data.max_length,
        truncation=settings.data.truncation,
        cut=cut,
        near_duplicates=splits.near_duplicates,
        is_small=splits.is_small,
        rows_skipped=len(splits.skipped),
    )
