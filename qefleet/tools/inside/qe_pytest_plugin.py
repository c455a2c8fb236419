"""A pytest plug-in of ours: node ids in the JUnit file, a seeded order, coverage contexts by test."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register what the environment asks for."""
    seed = os.environ.get("QE_ORDER_SEED")
    if seed is not None:
        config.pluginmanager.register(_Shuffled(int(seed)))
    if os.environ.get("QE_CONTEXTS") == "1":
        config.pluginmanager.register(_Contexts())


def pytest_itemcollected(item: pytest.Item) -> None:
    """Write the node id into the JUnit file, which otherwise can't be told from class and name."""
    item.user_properties.append(("qe_node_id", item.nodeid))


class _Shuffled:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - an order of tests, not a secret

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: item.nodeid)
        self._random.shuffle(items)


class _Contexts:
    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        import coverage  # noqa: PLC0415 - only where contexts are measured

        current = coverage.Coverage.current()
        if current is not None:
            current.switch_context(item.nodeid)
        yield
        if current is not None:
            current.switch_context("")
