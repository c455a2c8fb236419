"""Values, choices and updates: exact arithmetic, and that they find what is best."""

from __future__ import annotations

import random
from collections import Counter
from statistics import mean

import pytest

from qefleet.learning.values import (
    CONSTANTS,
    Constants,
    Estimate,
    bandit_update,
    choose,
    expected,
    q_update,
    seed_of,
    unknown,
)


def test_a_q_value_moves_by_alpha_towards_reward_and_discounted_future() -> None:
    """0.5 + 0.1 * (1 + 0.95 * 0.8 - 0.5) = 0.626."""
    moved = q_update(Estimate(0.5, 3), 1.0, next_best=0.8)

    assert moved.value == pytest.approx(0.626, abs=1e-12)
    assert moved.visits == 4


def test_an_episode_that_has_ended_promises_nothing() -> None:
    """0.5 + 0.1 * (1 - 0.5) = 0.55."""
    assert q_update(Estimate(0.5, 3), 1.0) == Estimate(0.55, 4)


def test_the_first_rewards_of_a_bandit_are_averaged_and_later_ones_fade() -> None:
    """The initial value is gone after one reward; from the tenth on, each moves the value by a tenth."""
    estimate = unknown()
    for given in (0.6, 0.2, 0.1):
        estimate = bandit_update(estimate, given)

    assert (estimate.value, estimate.visits) == (pytest.approx(0.3), 3)
    assert bandit_update(Estimate(0.5, 20), 1.0) == Estimate(0.55, 21)


def test_chance_fades_from_a_fifth_to_a_hundredth() -> None:
    """0.2 * 0.995 ** n, and no less than 0.01."""
    assert CONSTANTS.exploring(0) == 0.2
    assert CONSTANTS.exploring(100) == pytest.approx(0.2 * 0.995**100)
    assert CONSTANTS.exploring(10_000) == 0.01


def test_the_share_that_is_explored_is_the_one_that_is_stated() -> None:
    """Of 10,000 choices at 0.2, a fifth is left to chance, spread evenly over all actions."""
    estimates = {"a": Estimate(0.9, 5), "b": Estimate(0.1, 5), "c": Estimate(0.2, 5)}
    made = [choose(estimates, epsilon=0.2, seed=seed_of("run", n)) for n in range(10_000)]
    explored = Counter(chosen.action for chosen in made if chosen.reason == "explored")

    assert 0.19 < explored.total() / 10_000 < 0.21
    assert all(0.3 < count / explored.total() < 0.37 for count in explored.values())
    assert {chosen.action for chosen in made if chosen.reason == "best"} == {"a"}


def test_a_choice_that_is_made_again_is_the_same() -> None:
    """The seed is made of names: the same in every process, another one for another item."""
    estimates = {name: Estimate(0.5, 1) for name in "abcdefgh"}
    seeds = [seed_of("run", "step#0", item) for item in ("x", "y", "z")]

    assert [choose(estimates, epsilon=1.0, seed=s) for s in seeds] == [
        choose(estimates, epsilon=1.0, seed=s) for s in seeds
    ]
    assert seed_of("run", "step#0", "x") == 1759245680771143738


def test_what_was_never_tried_is_tried_before_what_is_known() -> None:
    """An unknown action counts as the best that there is; of several, the first one offered is taken."""
    estimates = {"known": Estimate(0.6, 9), "new": unknown(), "newer": unknown()}

    assert choose(estimates, epsilon=0.0, seed=1).action == "new"
    assert choose(estimates, epsilon=0.0, seed=1).reason == "untried"


def test_a_state_learns_from_the_others_until_it_knows_better() -> None:
    """(3 * 0.4 + 1 * 0 + 2 * 0.7) / 6 = 0.4333 everywhere; drawn to it, in y: (1 * 0 + 2 * 0.4333) / 3."""
    table = {("x", "a"): Estimate(0.4, 3), ("y", "a"): Estimate(0.0, 1), ("x", "b"): Estimate(0.1, 100)}
    found = expected(table, "y", ["a", "b", "c"])

    assert {name: each.visits for name, each in found.items()} == {"a": 1, "b": 0, "c": 0}
    assert [each.value for each in found.values()] == pytest.approx(
        [0.8666667 / 3, (0.1 * 100 + 0.7 * 2) / 102, 0.7]
    )


def test_what_a_state_has_seen_often_counts_by_itself() -> None:
    """After a hundred rewards other states hardly matter."""
    table = {("x", "a"): Estimate(0.4, 100), ("y", "a"): Estimate(-0.1, 900)}

    assert expected(table, "x", ["a"])["a"].value == pytest.approx(0.39, abs=0.005)


def test_q_learning_arrives_at_the_values_of_a_chain_that_are_known() -> None:
    """Three states in a row, 1 for leaving the last one: gamma ** 2, gamma, 1 for going on, 0 for leaving."""
    constants = Constants(initial=0.0)
    names = ["go", "leave"]
    table = {(state, action): Estimate(0.0, 0) for state in range(3) for action in names}
    for episode in range(4_000):
        state = 0
        while state < 3:
            estimates = {action: table[state, action] for action in names}
            action = choose(estimates, epsilon=0.5, seed=seed_of(episode, state)).action
            ends = action == "leave" or state == 2
            given = 1.0 if state == 2 and action == "go" else 0.0
            following = 0.0 if ends else max(table[state + 1, name].value for name in names)
            table[state, action] = q_update(table[state, action], given, next_best=following)
            state = 3 if ends else state + 1

    assert [table[s, "go"].value for s in range(3)] == pytest.approx([0.95**2, 0.95, 1.0], abs=1e-6)
    assert all(table[s, "leave"].value == 0.0 for s in range(3))
    assert constants.gamma == 0.95


def test_the_bandit_finds_the_best_action_of_each_state_under_noise() -> None:
    """Two states whose best actions differ: after 400 choices nine of ten are the best one."""
    worth = {"x": {"a": 0.5, "b": 0.2}, "y": {"a": 0.0, "b": 0.4}}
    noise = random.Random(7)
    table = {(s, a): unknown() for s in worth for a in worth[s]}
    best: list[bool] = []
    for number in range(400):
        state = "xy"[number % 2]
        estimates = {action: table[state, action] for action in worth[state]}
        action = choose(estimates, epsilon=CONSTANTS.exploring(number), seed=seed_of(number)).action
        table[state, action] = bandit_update(table[state, action], worth[state][action] + noise.gauss(0, 0.1))
        best.append(action == max(worth[state], key=lambda name: worth[state][name]))

    assert mean(best[-100:]) > 0.9
