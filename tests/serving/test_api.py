"""What the service answers, and in which form it refuses."""

import asyncio
import json
import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from starlette.testclient import TestClient
from tiny_runs import leave_sums_out
from tiny_service import OVERRIDES, STARS, TinyAdapters, build_service, running

from peft_sentiment.errors import AdapterError, SettingsError
from peft_sentiment.inference.loading import load_classifier
from peft_sentiment.model.shared import copy_modules
from peft_sentiment.records.reviews import Reviews
from peft_sentiment.serving.adapters import AdapterRegistry
from peft_sentiment.serving.api import build_app
from peft_sentiment.serving.gate import OPEN_PATHS
from peft_sentiment.serving.keys import KEYS_VARIABLE, load_api_keys
from peft_sentiment.serving.logs import LOGGER, JsonFormatter, log_fault

KEY, OTHER_KEY = "correct horse battery staple", "another key that is long"


def require_error(answer: Any, status: int, code: str) -> str:  # noqa: ANN401 - any client's
    """Check that an answer is an error of the one form, and return its message."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() == {"code", "message", "request_id"}
    assert error["code"] == code
    assert error["request_id"] == answer.headers["x-request-id"]
    return str(error["message"])


def test_one_text_is_labelled_as_offline(
    client: TestClient, tiny_adapters: TinyAdapters, tiny_reviews: Reviews
) -> None:
    text = tiny_reviews.texts[50]
    answer = client.post("/v1/predict", json={"texts": text}).json()
    offline = load_classifier(tiny_adapters.root / "plain", OVERRIDES).predict_reviews([text])
    assert answer["adapter"] == "plain"
    [said] = answer["predictions"]
    assert said["label"] == offline.labels[0]
    assert list(said["probabilities"]) == list(offline.label_names)
    np.testing.assert_allclose(
        list(said["probabilities"].values()), offline.probabilities[0], atol=1e-5
    )
    assert (said["tokens"], said["explanation"]) == (int(offline.tokens[0]), None)


def test_mixed_requests_get_what_each_adapter_says_alone(
    tiny_adapters: TinyAdapters, tiny_reviews: Reviews
) -> None:
    texts = list(tiny_reviews.texts[40:100])
    alone = {
        name: load_classifier(Path(folder), OVERRIDES).predict_reviews(texts)
        for name, folder in tiny_adapters.folders.items()
    }
    assert alone["stars"].label_names == STARS
    service = build_service(tiny_adapters.folders, batch_delay_ms=50, batch_tokens=512)
    mixed_batches = []

    async def ask() -> list[dict[str, Any]]:
        app = build_app(service)
        await service.start()
        score = service._batcher._score

        def note(batch: Any, workspace: Any) -> Any:  # noqa: ANN401 - only counted
            mixed_batches.append(len({id(served) for served, _ in batch}))
            return score(batch, workspace)

        service._batcher._score = note
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as asking:
            answers = await asyncio.gather(
                *(
                    asking.post("/v1/predict", json={"texts": text, "adapter": name})
                    for text in texts
                    for name in alone
                )
            )
        await service.stop()
        return [answer.json() for answer in answers]

    answers = iter(asyncio.run(ask()))
    for place in range(len(texts)):
        for name, offline in alone.items():
            answer = next(answers)
            assert answer["adapter"] == name
            got = list(answer["predictions"][0]["probabilities"].values())
            np.testing.assert_allclose(got, offline.probabilities[place], atol=1e-5)
            assert answer["predictions"][0]["label"] == offline.labels[place]
    assert max(mixed_batches) == 3


def test_several_texts_are_answered_in_their_order(
    client: TestClient, tiny_reviews: Reviews
) -> None:
    texts = list(tiny_reviews.texts[:20])
    together = client.post("/v1/predict", json={"texts": texts, "adapter": "stars"}).json()
    for text, said in zip(texts, together["predictions"], strict=True):
        alone = client.post("/v1/predict", json={"texts": [text], "adapter": "stars"}).json()
        expected = alone["predictions"][0]["probabilities"]
        assert said["probabilities"] == pytest.approx(expected, abs=1e-5)


def test_an_explanation_names_the_words(client: TestClient) -> None:
    text = "good film"
    answer = client.post("/v1/predict", json={"texts": text, "explain": True}).json()
    said = answer["predictions"][0]
    words = said["explanation"]["words"]
    assert [text[word["start"] : word["end"]] for word in words] == ["good", "film"]
    change = said["explanation"]["log_odds"] - said["explanation"]["baseline_log_odds"]
    assert sum(word["score"] for word in words) == pytest.approx(change, rel=0.1, abs=1e-3)


def test_what_is_explained_shares_no_module_with_the_batches_beside_it(
    tiny_adapters: TinyAdapters,
) -> None:
    service = build_service(tiny_adapters.folders)
    served = service.registry.get("plain").served
    of_batches = served._classifier.model_
    served.explain(["a film"])  # which makes the modules
    used: list[str] = []
    for module in of_batches.modules():
        module.register_forward_pre_hook(lambda *_: used.append("by an explanation"))
    found = served.explain(["a good film"])
    assert used == []
    alone = load_classifier(Path(tiny_adapters.folders["plain"]), OVERRIDES)
    (word, *_), (expected, *_) = found[0].words, alone.explain(["a good film"])[0].words
    assert word.score == pytest.approx(expected.score, abs=1e-5)
    own = copy_modules(of_batches)
    pairs = zip(own.parameters(), of_batches.parameters(), strict=True)
    assert all(mine is theirs for mine, theirs in pairs)


def test_an_adapter_is_removed_while_another_is_being_loaded(tiny_adapters: TinyAdapters) -> None:
    registry = build_service(tiny_adapters.folders, root=tiny_adapters.root).registry
    with registry._loading:
        removing = threading.Thread(target=registry.remove, args=["wide"], daemon=True)
        removing.start()
        removing.join(timeout=10)
        assert not removing.is_alive()
    assert [adapter.name for adapter in registry.list_adapters()] == ["plain", "stars"]


def test_a_service_ends_while_an_adapter_is_being_loaded(
    tiny_adapters: TinyAdapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = build_service(tiny_adapters.folders, root=tiny_adapters.root, request_seconds=0.2)
    begun, may_end = threading.Event(), threading.Event()

    def load(*_: str) -> None:
        begun.set()
        may_end.wait(60)

    monkeypatch.setattr(service.registry, "load_from_root", load)

    def run() -> None:
        with running(service) as client:
            client.post("/v1/adapters", json={"name": "new", "folder": "stars"})

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert begun.wait(20)
    thread.join(timeout=20)
    assert not thread.is_alive()
    may_end.set()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"texts": "good", "adapter": "nobody"}, 404, "unknown_adapter"),
        ({"texts": []}, 422, "malformed_request"),
        ({"texts": 3}, 422, "malformed_request"),
        ({"texts": ["good", None]}, 422, "malformed_request"),
        ({"texts": "good", "explain": "yes"}, 422, "malformed_request"),
        ({"texts": "good", "adaptor": "plain"}, 422, "malformed_request"),
        ({"texts": "\ud800"}, 422, "malformed_request"),
        ({}, 422, "malformed_request"),
        (["good"], 422, "malformed_request"),
        ({"texts": "x" * 20_001}, 413, "text_too_long"),
        ({"texts": ["good"] * 65}, 413, "too_many_texts"),
        ({"texts": ["good"] * 5, "explain": True}, 413, "too_many_texts"),
        ({"texts": "x" * 1_000_001}, 413, "body_too_large"),
    ],
)
def test_what_is_asked_wrongly_is_refused(
    client: TestClient,
    body: Any,  # noqa: ANN401 - any JSON
    status: int,
    code: str,
) -> None:
    content = json.dumps(body)
    answer = client.post(
        "/v1/predict", content=content, headers={"Content-Type": "application/json"}
    )
    require_error(answer, status, code)


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"texts": "a"', b"\xff\xfe\x00\x01", b"[" * 100_000, b"nonsense"]
)
def test_a_body_that_is_no_json_is_refused(client: TestClient, content: bytes) -> None:
    answer = client.post(
        "/v1/predict", content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    require_error(answer, answer.status_code, answer.json()["error"]["code"])


def test_a_malformed_field_is_named_and_not_quoted(client: TestClient) -> None:
    answer = client.post("/v1/predict", json={"texts": ["a", 7], "secret words": "private text"})
    message = require_error(answer, 422, "malformed_request")
    assert "body.texts" in message
    assert "secret" not in message
    assert "private" not in message


def test_another_content_type_is_refused(client: TestClient) -> None:
    headers = {"Content-Type": "text/plain"}
    answer = client.post("/v1/predict", content=b'{"texts": "a"}', headers=headers)
    require_error(answer, 415, "not_json")


def test_unknown_places_and_wrong_methods_have_the_same_form(client: TestClient) -> None:
    require_error(client.get("/v1/nowhere"), 404, "unknown_place")
    require_error(client.put("/v1/predict"), 405, "wrong_method")
    for page in ("/docs", "/redoc"):  # they would load scripts from elsewhere
        require_error(client.get(page), 404, "unknown_place")


def test_a_large_body_is_refused_whether_or_not_it_says_so(tiny_adapters: TinyAdapters) -> None:
    service = build_service({"plain": tiny_adapters.folders["plain"]}, max_body_bytes=100)
    headers = {"Content-Type": "application/json"}
    with running(service) as client:
        said = client.post("/v1/predict", content=b"x" * 101, headers=headers)
        require_error(said, 413, "body_too_large")
        parts = (b"x" * 30 for _ in range(10))
        unsaid = client.post("/v1/predict", content=parts, headers=headers)
        require_error(unsaid, 413, "body_too_large")


def test_a_fault_of_our_own_is_told_without_its_words(
    tiny_adapters: TinyAdapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = build_service({"plain": tiny_adapters.folders["plain"]})
    with running(service) as client:

        def fail(*_: object) -> None:
            raise ValueError("private text")

        monkeypatch.setattr(service._batcher, "_score", fail)
        answer = client.post("/v1/predict", json={"texts": "private text"})
    assert "private" not in require_error(answer, 500, "fault")


def test_a_late_answer_is_given_up(
    tiny_adapters: TinyAdapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = "https://example.org"
    service = build_service(
        {"plain": tiny_adapters.folders["plain"]}, request_seconds=0.2, cors_origins=(origin,)
    )
    with running(service) as client:

        async def never(*_: object) -> None:
            await asyncio.sleep(60)

        monkeypatch.setattr(service, "_label", never)
        late = client.post("/v1/predict", json={"texts": "a"}, headers={"Origin": origin})
        require_error(late, 504, "too_late")
        assert late.headers["access-control-allow-origin"] == origin


def test_too_many_requests_at_once_are_refused(
    tiny_adapters: TinyAdapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = build_service({"plain": tiny_adapters.folders["plain"]}, max_requests=2)
    with running(service) as client:
        monkeypatch.setattr(type(service), "under_way", property(lambda _: 3))
        answer = client.post("/v1/predict", json={"texts": "a"})
        require_error(answer, 503, "too_many_requests")
        assert int(answer.headers["retry-after"]) >= 1
        assert client.get("/healthz").status_code == 200


def test_without_a_key_nothing_but_the_state_is_told(tiny_adapters: TinyAdapters) -> None:
    service = build_service({"plain": tiny_adapters.folders["plain"]}, keys=(KEY, OTHER_KEY))
    with running(service) as client:
        for path in OPEN_PATHS:
            assert client.get(path).status_code == 200
        for wrong in (None, "", KEY, f"Basic {KEY}", "Bearer ", f"Bearer {KEY}x", "Bearer é"):
            headers = {} if wrong is None else {"Authorization": wrong.encode()}
            for path in ("/metrics", "/v1/adapters", "/v1/nowhere"):
                answer = client.get(path, headers=headers)
                require_error(answer, 401, "key_needed")
                assert answer.headers["www-authenticate"] == "Bearer"
        for key in (KEY, OTHER_KEY):
            headers = {"Authorization": f"Bearer {key}"}
            assert client.get("/v1/adapters", headers=headers).status_code == 200


def test_keys_come_from_file_and_environment_and_are_long(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# of the team\n{KEY}\n\n")
    keys = load_api_keys(str(file), {KEYS_VARIABLE: f"{OTHER_KEY}, "})
    assert len(keys) == 2
    assert keys.let_in(f"Bearer {KEY}")
    assert keys.let_in(f"bearer {OTHER_KEY}")
    assert not len(load_api_keys(None, {}))
    assert KEY not in str(vars(keys))
    file.write_text(f"\ufeff{KEY}\n  # {OTHER_KEY}\n", encoding="utf-8")
    keys = load_api_keys(str(file), {})
    assert (len(keys), keys.let_in(f"Bearer {KEY}")) == (1, True)
    with pytest.raises(SettingsError, match="beyond ASCII"):
        load_api_keys(None, {KEYS_VARIABLE: f"schlüssel-{KEY}"})
    file.write_text("# nothing\n")
    with pytest.raises(SettingsError, match="no key in it"):
        load_api_keys(str(file), {})
    with pytest.raises(SettingsError, match="can't be read"):
        load_api_keys(str(tmp_path / "missing"), {})
    with pytest.raises(SettingsError, match="can be guessed") as refused:
        load_api_keys(None, {KEYS_VARIABLE: "short"})
    assert "short" not in str(refused.value)


def test_adapters_come_and_go_while_it_runs(tiny_adapters: TinyAdapters) -> None:
    first = {"plain": tiny_adapters.folders["plain"]}
    with running(build_service(first, root=tiny_adapters.root)) as client:
        loaded = client.post("/v1/adapters", json={"name": "new", "folder": "stars"})
        assert loaded.status_code == 201
        assert loaded.json()["labels"] == list(STARS)
        listed = client.get("/v1/adapters").json()["adapters"]
        assert [(a["name"], a["is_default"]) for a in listed] == [("plain", True), ("new", False)]
        asked = client.post("/v1/predict", json={"texts": "good", "adapter": "new"})
        assert len(asked.json()["predictions"][0]["probabilities"]) == 5
        again = client.post("/v1/adapters", json={"name": "new", "folder": "wide"})
        require_error(again, 409, "name_taken")
        assert 'texts_total{adapter="new"} 1.0' in client.get("/metrics").text
        assert client.delete("/v1/adapters/new").status_code == 204
        assert 'adapter="new"' not in client.get("/metrics").text
        gone = client.post("/v1/predict", json={"texts": "good", "adapter": "new"})
        require_error(gone, 404, "unknown_adapter")
        require_error(client.delete("/v1/adapters/new"), 404, "unknown_adapter")
        assert client.delete("/v1/adapters/plain").status_code == 204
        require_error(client.get("/readyz"), 503, "no_adapter")
        require_error(client.post("/v1/predict", json={"texts": "a"}), 404, "unknown_adapter")


def test_an_adapter_is_loaded_from_below_the_folder_only(
    tiny_adapters: TinyAdapters, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(tiny_adapters.root / "plain", root / "inside")
    (root / "empty").mkdir()
    (root / "link").symlink_to(tiny_adapters.root / "plain")
    (root / "file").write_text("no folder")
    with running(build_service({"a": str(root / "inside")}, root=root, max_adapters=2)) as client:

        def load(folder: str, name: str = "b") -> Any:  # noqa: ANN401 - the client's answer
            return client.post("/v1/adapters", json={"name": name, "folder": folder})

        for folder in ("..", ".", "../root", str(tiny_adapters.root / "plain"), "link", "\0",
                       "inside/../../root", "/"):  # fmt: skip
            require_error(load(folder), 403, "folder_outside")
        for folder in ("nowhere", "file"):
            require_error(load(folder), 404, "unknown_folder")
        message = require_error(load("empty"), 422, "adapter_unusable")
        assert str(root) not in message
        for name in ("", "../b", "a/b", "-", "x" * 65, "a b", "b\n"):
            require_error(load("inside", name), 422, "malformed_request")
        assert load("inside").status_code == 201
        require_error(load("inside", "c"), 409, "too_many_adapters")


def test_without_a_folder_adapters_are_fixed(client: TestClient) -> None:
    asked = client.post("/v1/adapters", json={"name": "new", "folder": "stars"})
    require_error(asked, 403, "adapters_fixed")
    require_error(client.delete("/v1/adapters/plain"), 403, "adapters_fixed")


def test_an_adapter_of_another_encoder_is_refused_before_it_is_loaded(
    tiny_adapters: TinyAdapters, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_adapters.root / "plain", other)
    leave_sums_out(other)
    metadata = json.loads((other / "peft_sentiment.json").read_text())
    metadata.update(base_sha256="0" * 64, base_name="somebody/elses")
    (other / "peft_sentiment.json").write_text(json.dumps(metadata))
    registry = AdapterRegistry(OVERRIDES, None, 2)
    registry.load("a", tiny_adapters.root / "plain", "a")
    with pytest.raises(AdapterError, match="somebody/elses"):
        registry.load("b", other, "b")


def test_metrics_count_requests_and_batches(tiny_adapters: TinyAdapters) -> None:
    with running(build_service(tiny_adapters.folders)) as client:
        client.post("/v1/predict", json={"texts": ["good", "bad"], "adapter": "wide"})
        client.post("/v1/predict", json={"texts": []})
        client.get("/v1/somewhere/private")
        client.request("PRIVATE", "/healthz")
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    told = answer.text
    for line in (
        'peft_sentiment_requests_total{method="POST",route="/v1/predict",status="200"} 1.0',
        'peft_sentiment_requests_total{method="POST",route="/v1/predict",status="422"} 1.0',
        'peft_sentiment_texts_total{adapter="wide"} 2.0',
        'peft_sentiment_refusals_total{code="malformed_request"} 1.0',
        "peft_sentiment_queue_tokens 0.0",
        "peft_sentiment_adapters 3.0",
    ):
        assert line in told
    assert "peft_sentiment_batch_tokens_sum" in told
    assert "process_resident_memory_bytes" in told
    assert "private" not in told.lower()


def test_logs_tell_counts_and_no_text(
    client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOGGER, "propagate", True)
    caplog.set_level(logging.DEBUG)
    client.post("/v1/predict", json={"texts": ["confidential words", "b"]})
    client.post("/v1/predict", json={"texts": ["confidential", 5], "confidential": 1})
    client.post("/v1/predict", json={"texts": "a", "adapter": "confidential"})
    client.get("/confidential", params={"q": "confidential"})
    try:
        raise ValueError("confidential")
    except ValueError:
        log_fault("fault")
    lines = [
        JsonFormatter().format(record) for record in caplog.records if record.name == LOGGER.name
    ]
    events = [json.loads(line) for line in lines]
    assert "confidential" not in "\n".join(lines)
    requests = [event for event in events if event["event"] == "request"]
    assert [event["status"] for event in requests] == [200, 422, 404, 404]
    assert (requests[0]["adapter"], requests[0]["texts"]) == ("plain", 2)
    assert requests[0]["tokens"] > 4
    fault = events[-1]
    assert (fault["event"], fault["error"]) == ("fault", "ValueError")
    assert any("test_logs_tell" in place for place in fault["places"])


def test_other_origins_are_let_in_only_when_listed(
    client: TestClient, tiny_adapters: TinyAdapters
) -> None:
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in client.get("/healthz", headers=asked).headers
    service = build_service(
        {"plain": tiny_adapters.folders["plain"]},
        keys=(KEY,),
        cors_origins=("https://example.org",),
    )
    with running(service) as open_client:
        before = open_client.options("/v1/predict", headers=asked)
        assert before.headers["access-control-allow-origin"] == "https://example.org"
        refused = open_client.post("/v1/predict", headers=asked)
        assert refused.headers["access-control-allow-origin"] == "https://example.org"
        require_error(refused, 401, "key_needed")
        other = open_client.get("/healthz", headers={"Origin": "https://example.com"})
        assert "access-control-allow-origin" not in other.headers


def test_openapi_has_examples_and_one_form_of_errors(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert schema["components"]["schemas"]["PredictRequest"]["examples"]
    one, many = schema["components"]["schemas"]["PredictRequest"]["properties"]["texts"]["anyOf"]
    assert (one["maxLength"], many["maxItems"]) == (20_000, 64)
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    for methods in schema["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    form = answer["content"]["application/json"]["schema"]["$ref"]
                    assert form.endswith("/ErrorBody")
