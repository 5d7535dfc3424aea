"""Scoring of any number of reviews on Ray Data: a pool of actors, each with the model.

An actor reads a part, labels it and stores it. What is lost with a worker or a node is done again
by another; what has been stored is not.
"""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from peft_sentiment.errors import ClusterError, OutputError, SettingsError, build_missing_error
from peft_sentiment.evaluation.decisions import decide_labels
from peft_sentiment.files import compute_sha256
from peft_sentiment.inference.loading import load_labeller
from peft_sentiment.model.metadata import load_metadata
from peft_sentiment.scale.plan import Part, fingerprint_job, list_files, plan_parts
from peft_sentiment.scale.records import Columns, Record
from peft_sentiment.scale.store import Labels, Store, describe_job

OBJECT_STORE_BYTES = 128 * 1024**2
"""Memory of a local Ray for what its workers exchange: parts are named there, not held."""

Batch = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Job:
    """What is to be scored, and how.

    Attributes:
        adapter: folder of the adapter, which every worker can read.
        overrides: settings of model and scoring that are given by hand.
        pattern: file, folder, glob or address of the reviews.
        columns: of text and key.
        output: folder of the labels.
        rows: of a part.
    """

    adapter: str
    overrides: Mapping[str, Mapping[str, Any]]
    pattern: str
    columns: Columns
    output: str
    rows: int = 2000

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise SettingsError(f"--rows-per-part is {self.rows}, but must be at least 1.")


@dataclass(frozen=True)
class Pool:
    """Who does the work.

    Attributes:
        address: of a running Ray; None starts one on this machine for the job alone.
        workers: actors; None takes one for each core, or each GPU where there are any.
    """

    address: str | None = None
    workers: int | None = None


@dataclass(frozen=True)
class PartDone:
    """What an actor tells of a part.

    Attributes:
        part: its number.
        rows: that were labelled.
        broken: rows that were not.
        process: id of the worker.
        rss_bytes: memory of the worker.
        is_new: whether it was not there before.
    """

    part: int
    rows: int
    broken: int
    process: int
    rss_bytes: int
    is_new: bool


class PartScorer:
    """Scores parts; an actor of Ray holds one."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.store = Store(job.output)
        self.label_names = load_metadata(Path(job.adapter)).label_names
        self.labeller = load_labeller(Path(job.adapter), job.overrides)

    def __call__(self, batch: Batch) -> Batch:
        """Score a batch of parts for Ray Data; return what was done, a column per value."""
        done = [self.score(Part.from_json(text)) for text in batch["part"]]
        return {
            name: np.array([getattr(one, name) for one in done])
            for name in PartDone.__dataclass_fields__
        }

    def score(self, part: Part) -> PartDone:
        """Label a part's rows and store them, unless that has been done."""
        is_new, rows, broken = not self.store.has(part), 0, 0
        if is_new:
            records = list(part.read(self.job.columns))
            sound = [record for record in records if record.text is not None]
            faulty = [record for record in records if record.text is None]
            self.store.save(part, self.label_names, self.label(sound), faulty)
            rows, broken = len(sound), len(faulty)
        rss = psutil.Process().memory_info().rss
        return PartDone(part.number, rows, broken, os.getpid(), rss, is_new)

    def label(self, records: list[Record]) -> Labels:
        """Return what the model says of records; it batches them by their tokens."""
        keys = [record.key for record in records]
        if not records:
            return Labels(keys, [], np.zeros((0, len(self.label_names)), np.float32))
        predictions = self.labeller.predict_reviews([str(record.text) for record in records])
        labels = decide_labels(predictions, self.labeller.calibration_)
        return Labels(keys, list(labels), predictions.probabilities)


def score_files(job: Job, pool: Pool) -> Iterator[PartDone]:
    """Score what is not scored yet, and yield what is done, part by part.

    Raises:
        SettingsError: Ray is not installed.
        DataError: there are no files, or one lacks a column.
        OutputError: the output folder belongs to another job.
        AdapterError: the adapter can't be read.
        ClusterError: Ray can't be reached, or a part fails again and again.
    """
    ray = import_ray()
    parts = list(prepare_job(job))
    if not parts:
        return
    with running_ray(ray, pool), cluster_errors(ray):
        tasks = ray.data.from_items(
            [{"part": part.as_json()} for part in parts], override_num_blocks=len(parts)
        )
        demand = choose_demand(ray.cluster_resources(), pool.workers, len(parts))
        done = tasks.map_batches(
            PartScorer,
            fn_constructor_args=(job,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=demand.pop("workers")),
            **demand,
        )
        for row in done.iter_rows():
            yield PartDone(**row)


def prepare_job(job: Job) -> Iterable[Part]:
    """Return the parts that are left to do, after checking that adapter, files and folder fit."""
    metadata = load_metadata(Path(job.adapter))
    weights = compute_sha256(Path(job.adapter) / "adapter_model.safetensors")
    files = list_files(job.pattern)
    rest = {
        "weights": weights,
        "base": metadata.base_sha256,
        "overrides": job.overrides,
        "columns": [job.columns.text, job.columns.key],
        "rows": job.rows,
    }
    parts = plan_parts(files, job.columns, job.rows)
    sha256 = fingerprint_job(files, rest)
    finished = Store(job.output).open_job(describe_job(sha256, job.adapter, job.pattern, parts))
    return [part for part in parts if part.name not in finished]


def choose_demand(
    resources: Mapping[str, float], workers: int | None, parts: int
) -> dict[str, Any]:
    """Return how many workers there are to be, and what each takes of a core or GPU.

    Args:
        resources: of the cluster, as Ray counts them.
        workers: asked for.
        parts: to do; more workers than these would be idle.
    """
    kind, name = ("GPU", "num_gpus") if resources.get("GPU") else ("CPU", "num_cpus")
    has = max(1, int(resources.get(kind, 1)))
    return {"workers": max(1, min(workers or has, parts)), name: 1}


def import_ray() -> Any:  # noqa: ANN401 - Ray is optional
    """Return Ray, told to report nothing home.

    Raises:
        SettingsError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Its remark that a lost driver loses its actors, which is what a job goes on from.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise build_missing_error("--engine ray needs", "Ray", "ray") from error
    return ray


@contextmanager
def running_ray(ray: Any, pool: Pool) -> Iterator[None]:  # noqa: ANN401 - Ray is optional
    """Join a cluster, or run a Ray of one's own for this block; one that runs already is used.

    Raises:
        ClusterError: there is no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if pool.address is not None:
            ray.init(address=pool.address, **quiet)
        else:
            cores = pool.workers or os.cpu_count() or 1
            ray.init(
                num_cpus=cores,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                **quiet,
            )
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise ClusterError(
            f"Ray can't be started or reached at {pool.address or 'this machine'} ({error}). "
            "Check --ray-address, or leave it out to score on this machine."
        ) from error
    with warnings.catch_warnings():
        # Of settings of its own that Ray reads to make its defaults.
        warnings.simplefilter("ignore", DeprecationWarning)
        context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def cluster_errors(ray: Any) -> Iterator[None]:  # noqa: ANN401 - Ray is optional
    """Turn what Ray says of a job that it gives up into one message.

    Raises:
        ClusterError, OutputError: it has been given up.
    """
    try:
        yield
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        lines = [line for line in str(cause).splitlines() if line.strip()]
        kind = OutputError if isinstance(cause, OSError) else ClusterError
        raise kind(
            f"Scoring was given up ({lines[-1] if lines else type(cause).__name__}). The parts "
            "that are stored stay; the same command goes on with the rest."
        ) from error
