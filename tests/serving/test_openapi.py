"""The description of the routes holds, whatever is sent to them."""

from __future__ import annotations

import contextlib

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from serving.conftest import Live


@pytest.mark.slow
def test_schemathesis_finds_nothing(live: Live) -> None:
    schema = schemathesis.openapi.from_url(f"{live.address}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 15
    for operation in operations:
        for mode in GenerationMode:
            cases = operation.as_strategy(generation_mode=mode)

            @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
            @given(case=cases)
            def holds(case: schemathesis.Case) -> None:
                # What a model reads (pairs, so many texts) is not in the schema, so the right shape may be refused.
                case.call_and_validate(excluded_checks=[positive_data_acceptance])

            with contextlib.suppress(Unsatisfiable):  # a route that reads nothing has no faulty requests
                holds()
