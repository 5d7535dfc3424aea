"""The parts in order: each reads records and writes one, last."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from peft_sentiment.config import Settings
from peft_sentiment.errors import SettingsError
from peft_sentiment.evaluation.comparison import compare_predictions
from peft_sentiment.evaluation.metrics import compute_scores
from peft_sentiment.evaluation.pairs import compare_pairs
from peft_sentiment.evaluation.storage import RESULTS_FILE
from peft_sentiment.evaluation.thresholds import choose_threshold, measure_calibration
from peft_sentiment.foundation import Foundation, load_foundation
from peft_sentiment.inference.baselines import predict_baselines
from peft_sentiment.inference.classifier import SentimentClassifier
from peft_sentiment.interruptions import signals_put_off, stop_told
from peft_sentiment.model.adapters import count_parameters
from peft_sentiment.model.learning_rates import choose_learning_rate, settle_learning_rates
from peft_sentiment.model.memory import measure_peak_rss
from peft_sentiment.processes import get_processes, working_alone
from peft_sentiment.records import SCHEMA_VERSION, Predictions, Results, ValidationRecord
from peft_sentiment.reporting.calibration import show_calibration
from peft_sentiment.reporting.comparison import show_comparison, show_confusion
from peft_sentiment.reporting.console import (
    show_cache,
    show_heading,
    show_learning_rate,
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
from peft_sentiment.reporting.run_files import REPORT_FILE, STEPS_FILE
from peft_sentiment.reporting.titles import name_model
from peft_sentiment.reporting.unfinished import show_note
from peft_sentiment.self_training import study_unlabelled
from peft_sentiment.serving.demo import ask_for_reviews, show_samples
from peft_sentiment.serving.showcase import Showcase
from peft_sentiment.storing import Training, require_outputs, store_run, store_training
from peft_sentiment.streamed import hold_sample
from peft_sentiment.training.fit import Event, summarize_training
from peft_sentiment.training.saving import CheckpointSaver
from peft_sentiment.training.trackers import Trackers, open_trackers
from peft_sentiment.unfinished import (
    describe_places,
    divergence_told,
    kept_whole,
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


def run_pipeline(settings: Settings, console: Console, resume: bool = False) -> Results:
    """Measure the base, train an adapter, compare both, store everything, show samples.

    Args:
        settings: of the run.
        console: where to show what happens.
        resume: whether to go on from where an unfinished run of these settings was stopped.

    Raises:
        PeftSentimentError: any of its kinds; what an earlier run has stored is then unchanged.
    """
    with opened_run(settings, console) as run:
        foundation, results = run_parts(run, resume)
        if not get_processes().is_main:
            return results
        remove_unfinished(settings)
    with working_alone(), stop_told(f"Stopped. The run has finished: {describe_places(settings)}"):
        show_outcome(run, foundation, results)
    return results


@contextmanager
def opened_run(settings: Settings, console: Console) -> Iterator[Run]:
    """Check that a run can be stored, and have its folders and trackers for the block.

    Raises:
        OutputError, SettingsError: it can't be stored, or a tracker is missing.
    """
    get_processes().agree(lambda: require_outputs(settings))
    with outputs_locked(settings), open_trackers(settings) as trackers:
        yield Run(settings, console, trackers)


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
    foundation = load_foundation(settings, console, run.clock)
    foundation = study_unlabelled(foundation, settings, console)
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
        with kept_whole(settings, RESULTS_FILE):
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
    with opened_run(settings, console) as run:
        foundation = load_foundation(settings, console, run.clock)
        foundation = study_unlabelled(foundation, settings, console)
        saver = open_checkpoints(settings, console, foundation, resume)
        with told_how_to_go_on(saver):
            training = train_adapter(run, foundation, saver)
            score_adapter(run, foundation)
        if not get_processes().is_main:
            return
        with kept_whole(settings, STEPS_FILE):
            store_training(settings, foundation, training)
            write_model_card(Path(settings.output.adapter_dir), None)
        remove_unfinished(settings)
    console.print(f"Adapter: {settings.output.adapter_dir}", markup=False, highlight=False)


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
    seed = run.settings.training.seed
    splits, train = hold_sample(foundation.splits, foundation.train, seed)
    if names and len(train) < len(foundation.train):
        some = f"{len(train):,} of {len(foundation.train):,} training reviews"
        show_note(run.console, f"Baselines learn from {some}, drawn by chance.")
    computed = predict_baselines(names, foundation.classifier, splits, train)
    with run.console.status("Measuring the baselines"):
        for name, predictions in computed:
            found[name] = predictions
            show_model(run, foundation, name, predictions)
    return found


def train_adapter(run: Run, foundation: Foundation, saver: CheckpointSaver) -> Training:
    """Put an adapter on the encoder and train it, with progress.

    Raises:
        InterruptionError: by Ctrl-C or SIGTERM; says how to go on.
        DivergenceError: the loss is no number any more, or that of guessing; says what is left.
    """
    classifier, lessons, settings = foundation.classifier, foundation.lessons, run.settings
    parameters = count_parameters(classifier.build_adapter(lessons.tokens))
    show_parameters(run.console, parameters)
    show_passes(run.console, settings.training, len(lessons.tokens))
    show_learning_rate(
        run.console,
        settings.training,
        settle_learning_rates(classifier.encoder_, settings.adapter, settings.training),
        settings.adapter.method,
        choose_learning_rate(classifier.encoder_, settings.adapter),
    )
    show_processes(run.console, get_processes(), saver.identity.processes, settings.training)
    show_cache(run.console, classifier.plan_cache_bytes(lessons.tokens))
    events: list[Event] = list(saver.start.events) if saver.start else []
    with (
        signals_put_off() as stop,
        divergence_told(settings, classifier, lessons.reviews, saver, events),
        TrainingProgress(run.console, settings.training.logging_steps) as progress,
    ):
        saver.is_stopping = lambda: bool(stop)
        for event in classifier.iterate_fit(lessons.tokens, foundation.validation, saver):
            events.append(event)
            run.trackers.log_event(event)
            if isinstance(event, ValidationRecord):
                show_validation(run.console, event)
            else:
                progress.update(event)
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
        settings=make_paths_absolute(run.settings).as_tables(),
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
