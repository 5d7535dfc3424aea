"""Whatever the service's own description allows or forbids is answered as described."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from tiny_service import TinyAdapters, build_service, listening

KEY = "a key for the generated requests"
HEADERS = {"Authorization": f"Bearer {KEY}"}

REFUSALS = {
    "checks": {
        "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 413, 415, 422]}
    }
}
"""How the service refuses what breaks its description; 413 is for texts too many or too long."""


@pytest.fixture(scope="module")
def described(tiny_adapters: TinyAdapters) -> Iterator[schemathesis.BaseSchema]:
    """The description of a service whose adapters can be loaded and removed."""
    adapters = {"plain": tiny_adapters.folders["plain"]}
    service = build_service(adapters, root=tiny_adapters.root, keys=(KEY,), port=0)
    with listening(service) as address:
        config = SchemathesisConfig.from_dict(REFUSALS)
        url = f"{address}/openapi.json"
        yield schemathesis.openapi.from_url(url, config=config, timeout=120)


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
            # The limits are part of the description, so what keeps to it is never too large.
            assert response.status_code != 413 or mode is GenerationMode.NEGATIVE
            case.validate_response(response)

        ask()
