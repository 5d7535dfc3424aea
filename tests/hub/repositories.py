"""The repositories that the loopback hub serves: a DistilBERT and an IMDB, both tiny.

They hold the files that `distilbert/distilbert-base-uncased` and `stanfordnlp/imdb` hold, in the
same forms, with the same data set card and the same order of the reviews.
"""

import json
import shutil
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Value
from tiny_models import MAX_POSITIONS

from peft_sentiment.records.reviews import Reviews

DISTILBERT = "distilbert/distilbert-base-uncased"
IMDB = "stanfordnlp/imdb"
IMDB_LABELS = {"negative": 0, "positive": 1}
UNLABELLED = -1

IMDB_CARD = """\
---
language:
- en
license:
- other
task_categories:
- text-classification
task_ids:
- sentiment-classification
pretty_name: IMDB
dataset_info:
  config_name: plain_text
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': neg
          '1': pos
  splits:
  - name: train
    num_bytes: {train_bytes}
    num_examples: {train}
  - name: test
    num_bytes: {test_bytes}
    num_examples: {test}
  - name: unsupervised
    num_bytes: {unsupervised_bytes}
    num_examples: {unsupervised}
  download_size: {download_size}
  dataset_size: {dataset_size}
configs:
- config_name: plain_text
  data_files:
  - split: train
    path: plain_text/train-*
  - split: test
    path: plain_text/test-*
  - split: unsupervised
    path: plain_text/unsupervised-*
  default: true
---

# Dataset Card for "imdb"
"""


def build_repositories(folder: Path, distilbert: Path, reviews: Reviews) -> Path:
    """Build both repositories from a saved DistilBERT and labelled reviews; return the folder."""
    build_distilbert_repository(folder / "models" / DISTILBERT, distilbert)
    build_imdb_repository(folder / "datasets" / IMDB, reviews)
    return folder


def build_distilbert_repository(folder: Path, distilbert: Path) -> None:
    """Copy a saved DistilBERT into the form of the real repository.

    The real one has a tokenizer_config.json that names no class, and the weights a second time as
    a pickle; here that is no pickle at all, so that reading it fails.
    """
    shutil.copytree(distilbert, folder)
    tokenizer_config = {"do_lower_case": True, "model_max_length": MAX_POSITIONS}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config), encoding="utf-8")
    vocab = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocab, key=vocab.get)), encoding="utf-8")
    (folder / "pytorch_model.bin").write_bytes(b"not a pickle")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")


def build_imdb_repository(folder: Path, reviews: Reviews) -> None:
    """Write train, test and unsupervised reviews as Parquet files, and the data set card."""
    parts = split_like_imdb(reviews)
    (folder / "plain_text").mkdir(parents=True)
    for name, part in parts.items():
        part.to_parquet(folder / "plain_text" / f"{name}-00000-of-00001.parquet")
    (folder / "README.md").write_text(render_imdb_card(folder, parts), encoding="utf-8")


def split_like_imdb(reviews: Reviews) -> dict[str, Dataset]:
    """Split into three fifths, one fifth, and one fifth without labels; negative first."""
    train_end, test_end = 3 * len(reviews) // 5, 4 * len(reviews) // 5
    return {
        "train": _build_part(reviews.take(range(train_end))),
        "test": _build_part(reviews.take(range(train_end, test_end))),
        "unsupervised": _build_part(reviews.take(range(test_end, len(reviews))), has_labels=False),
    }


def _build_part(reviews: Reviews, has_labels: bool = True) -> Dataset:
    labels = [IMDB_LABELS[label] if has_labels else UNLABELLED for label in reviews.labels]
    order = sorted(range(len(reviews)), key=labels.__getitem__)
    columns = {"text": [reviews.texts[i] for i in order], "label": [labels[i] for i in order]}
    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    return Dataset.from_dict(columns, features=features)


def render_imdb_card(folder: Path, parts: dict[str, Dataset]) -> str:
    """Return the card; `datasets` checks its counts against the files."""
    counts = {name: len(part) for name, part in parts.items()}
    sizes = {f"{name}_bytes": part.data.nbytes for name, part in parts.items()}
    download_size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    dataset_size = sum(sizes.values())
    return IMDB_CARD.format(
        **counts, **sizes, download_size=download_size, dataset_size=dataset_size
    )
