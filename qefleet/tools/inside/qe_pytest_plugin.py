"""A pytest plug-in of ours: node ids and requirements in JUnit files, orders of tests, coverage contexts."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register what the environment asks for."""
    seed = os.environ.get("QE_ORDER_SEED")
    if seed is not None:
        config.pluginmanager.register(_Shuffled(int(seed)))
    if order := os.environ.get("QE_ORDER"):
        config.pluginmanager.register(_Chosen(json.loads(Path(order).read_text("utf-8"))))
    if os.environ.get("QE_CONTEXTS") == "1":
        config.pluginmanager.register(_Contexts())
    if place := os.environ.get("QE_COLLECTED"):
        config.pluginmanager.register(_Collected(Path(place)))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Write into the JUnit file what it can't tell: the node id, and which requirements a test is about."""
    item.user_properties.append(("qe_node_id", item.nodeid))
    for marker in item.iter_markers("requirement"):
        item.user_properties += [("qe_requirement", str(argument)) for argument in marker.args]
    scenario = getattr(getattr(item, "function", None), "__scenario__", None)  # as pytest-bdd leaves it
    if isinstance(name := getattr(scenario, "name", None), str):
        item.user_properties.append(("qe_scenario", name))


class _Shuffled:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - an order of tests, not a secret

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: item.nodeid)
        self._random.shuffle(items)


class _Chosen:
    """These tests alone, one after the other."""

    def __init__(self, wanted: list[str]) -> None:
        self._wanted = wanted

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        found = {item.nodeid: item for item in items}
        chosen = [found[node_id] for node_id in self._wanted if node_id in found]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


class _Collected:
    """Writes down the node ids of the tests that there are."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._place.write_text(json.dumps([item.nodeid for item in session.items]), "utf-8")


class _Contexts:
    """Tells coverage which test is running; a fixture that several share counts for all that could use it."""

    def __init__(self) -> None:
        self._test = ""

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._test = item.nodeid
        _switch(self._test)
        yield
        self._test = ""
        _switch(self._test)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Iterator[None]:
        shared = fixturedef.scope != "function"
        if shared:
            _switch(f"qe-fixture:{request.node.nodeid}")
        yield
        if shared:
            _switch(self._test)


def _switch(context: str) -> None:
    import coverage  # noqa: PLC0415 - only where contexts are measured

    current = coverage.Coverage.current()
    if current is not None:
        current.switch_context(context)
