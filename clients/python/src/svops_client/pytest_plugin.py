"""A plugin of pytest: the fixture `svops_stand_in`, for tests of programs that use the client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from svops_client.testing import StandIn


@pytest.fixture
def svops_stand_in() -> Iterator[StandIn]:
    """A platform in memory. `svops_stand_in.client` is a client of it; its workflows follow a script."""
    stand_in = StandIn()
    yield stand_in
    stand_in.client.close()
