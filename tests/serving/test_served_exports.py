"""Exported models answer beside adapters, with what each says offline."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tiny_exports import export_every_form
from tiny_service import OVERRIDES, TinyAdapters, build_service, running

from peft_sentiment.errors import ExportError
from peft_sentiment.inference.loading import load_classifier
from peft_sentiment.model.exported_files import FORMS, ONNX_FILE, ONNX_FORMS
from peft_sentiment.records.reviews import Reviews


@pytest.fixture(scope="module")
def folders(
    tiny_adapters: TinyAdapters, tiny_reviews: Reviews, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Two adapters, and every export of one whose reviews are longer than its windows."""
    home, plain = tmp_path_factory.mktemp("served"), Path(tiny_adapters.folders["plain"])
    exports = export_every_form(plain, tiny_reviews, home)
    kept = {name: tiny_adapters.folders[name] for name in ("plain", "stars")}
    return {**kept, **{form: str(folder) for form, folder in exports.items()}}


@pytest.fixture(scope="module")
def client(folders: dict[str, str]) -> Iterator[TestClient]:
    """What asks a service of adapters and exports."""
    with running(build_service(folders)) as client:
        yield client


def test_each_says_what_it_says_offline(
    client: TestClient, folders: dict[str, str], tiny_reviews: Reviews
) -> None:
    texts = list(tiny_reviews.texts[40:60])
    for name, folder in folders.items():
        offline = load_classifier(Path(folder), OVERRIDES).predict_reviews(texts)
        answer = client.post("/v1/predict", json={"texts": texts, "adapter": name}).json()
        for place, said in enumerate(answer["predictions"]):
            expected = offline.probabilities[place].tolist()
            got = list(said["probabilities"].values())
            assert got == (expected if name in ONNX_FORMS else pytest.approx(expected, abs=1e-5))
            assert said["label"] == offline.labels[place]
            assert said["tokens"] == offline.tokens[place]


def test_some_of_those_texts_are_read_in_windows(
    folders: dict[str, str], tiny_reviews: Reviews
) -> None:
    runtime = load_classifier(Path(folders["onnx"]), OVERRIDES).runtime_
    assert runtime is not None
    assert runtime.tokenize(list(tiny_reviews.texts[40:60])).lengths.max() > 12
    assert runtime.record.window_length == 12


def test_the_list_tells_the_forms(client: TestClient) -> None:
    listed = client.get("/v1/adapters").json()["adapters"]
    assert [item["form"] for item in listed] == ["adapter", "adapter", *FORMS]


@pytest.mark.parametrize("form", ONNX_FORMS)
def test_an_onnx_export_says_that_it_explains_nothing(client: TestClient, form: str) -> None:
    labelled = _count_labelled(client)
    body = {"texts": "good film", "adapter": form, "explain": True}
    answer = client.post("/v1/predict", json=body)
    assert answer.status_code == 501
    assert _count_labelled(client) == labelled, "it was labelled first"
    assert "--to merged" in answer.json()["error"]["message"]


def test_a_merged_export_explains_as_its_adapter_does(client: TestClient) -> None:
    said = [
        client.post(
            "/v1/predict", json={"texts": "good film", "adapter": name, "explain": True}
        ).json()["predictions"][0]["explanation"]
        for name in ("plain", "merged")
    ]
    assert [word["score"] for word in said[1]["words"]] == pytest.approx(
        [word["score"] for word in said[0]["words"]], abs=1e-3
    )


def test_an_export_is_loaded_while_it_runs_and_a_damaged_one_refused(
    tiny_adapters: TinyAdapters, folders: dict[str, str], tmp_path: Path
) -> None:
    for name in ("whole", "damaged"):
        shutil.copytree(folders["onnx-int8"], tmp_path / name)
    with (tmp_path / "damaged" / ONNX_FILE).open("ab") as file:
        file.write(b"x")
    service = build_service({"plain": tiny_adapters.folders["plain"]}, tmp_path)
    with running(service) as asking:
        added = asking.post("/v1/adapters", json={"name": "fast", "folder": "whole"})
        assert (added.status_code, added.json()["form"]) == (201, "onnx-int8")
        body = {"texts": "good film", "adapter": "fast"}
        assert asking.post("/v1/predict", json=body).status_code == 200
        refused = asking.post("/v1/adapters", json={"name": "other", "folder": "damaged"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "adapter_unusable")
        assert str(tmp_path) not in refused.text
        assert asking.delete("/v1/adapters/fast").status_code == 204


def test_an_export_may_come_first_and_be_alone(folders: dict[str, str]) -> None:
    with running(build_service({"fast": folders["onnx"]})) as asking:
        assert asking.post("/v1/predict", json={"texts": "good"}).json()["adapter"] == "fast"
    both = build_service({"fast": folders["merged"], "plain": folders["plain"]})
    with running(both) as asking:
        body = {"texts": "good", "adapter": "plain"}
        assert asking.post("/v1/predict", json=body).status_code == 200


def test_a_damaged_export_stops_the_start(folders: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(folders["onnx"], tmp_path / "damaged")
    (tmp_path / "damaged" / ONNX_FILE).unlink()
    with pytest.raises(ExportError, match="can't be read"):
        build_service({"fast": str(tmp_path / "damaged")})


def _count_labelled(client: TestClient) -> list[str]:
    """Return what the metrics tell of the texts that were labelled."""
    lines = client.get("/metrics").text.splitlines()
    return [line for line in lines if line.startswith("peft_sentiment_texts_total")]
