"""kombu's own contract of a transport, on the broker of this run.

Copied into kombu's source distribution, beside the modules of its own transports.
"""

from __future__ import annotations

import os

import kombu
import pytest

from .common import (
    BaseEventLoop,
    BaseExchangeTypes,
    BaseFailover,
    BaseMessage,
    BasePriority,
    BaseTimeToLive,
    BasicFunctionality,
)

BROKER = os.environ["FIELD_BROKER"]
#: Nothing listens there.
NOWHERE = os.environ["FIELD_NOWHERE"]


@pytest.fixture
def connection():
    return kombu.Connection(BROKER)


@pytest.fixture
def invalid_connection():
    return kombu.Connection(NOWHERE)


@pytest.fixture
def failover_connection():
    return kombu.Connection(
        [NOWHERE, BROKER],
        failover_strategy="round-robin",
        connect_timeout=5,
        transport_options={"max_retries": 3},
    )


class test_BasicFunctionality(BasicFunctionality):  # noqa: N801 - kombu's way to name them
    pass


class test_ExchangeTypes(BaseExchangeTypes):  # noqa: N801
    pass


class test_TimeToLive(BaseTimeToLive):  # noqa: N801
    pass


class test_Priority(BasePriority):  # noqa: N801
    PRIORITY_ORDER = "desc"


class test_Message(BaseMessage):  # noqa: N801
    pass


class test_EventLoop(BaseEventLoop):  # noqa: N801
    pass


class test_Failover(BaseFailover):  # noqa: N801
    pass
