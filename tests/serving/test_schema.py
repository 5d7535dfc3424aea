"""Whatever the service's own description allows or forbids is answered as described."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from tiny_service import TinyAdapters, build_service, listening

KEY = "a key for the generated requests"
HEADERS = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def described(tiny_adapters: TinyAdapters) -> Iterator[schemathesis.BaseSchema]:
    """The description of a service whose adapters can be loaded and removed."""
    adapters = {"plain": tiny_adapters.folders["plain"]}
    service = build_service(adapters, root=tiny_adapters.root, keys=(KEY,), port=0)
    with listening(service) as address:
        yield schemathesis.openapi.from_url(f"{address}/openapi.json", timeout=120)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_the_service_answers_as_it_describes(
    described: schemathesis.BaseSchema, mode: GenerationMode
) -> None:
    for operation in [result.ok() for result in described.get_all_operations()]:
        if mode is GenerationMode.NEGATIVE and operation.method.upper() == "GET":
            continue  # there is nothing to ask wrongly

        @settings(max_examples=20, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            response = case.call(headers=HEADERS, timeout=60)
            if response.status_code == 413:  # a refusal that schemathesis does not count as one
                assert response.json()["error"]["code"] in ("body_too_large", "text_too_long")
                return
            case.validate_response(response)

        ask()
