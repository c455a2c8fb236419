"""Lets the learner choose on the table of `measure_rewards.py`, and draws what came of it.

.venv/bin/python tests/soak/simulate_learning.py [--draw docs/images/learning.svg]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from qefleet.contracts.learning import Strategy
from qefleet.learning.curve import moving_mean, svg_curve
from qefleet.learning.offer import offered
from qefleet.learning.simulation import MeasuredSegment, interval, play, segments_of

TABLE = Path(__file__).with_name("learning_rewards.json")
SEEDS, EPISODES, LAST = 20, 100, 50


def last_means(segments: Sequence[MeasuredSegment], player: str, *, strange: bool = False) -> list[float]:
    """The mean reward of the last 50 of 100 episodes, by seed."""
    curves = [play(segments, player, seed=seed, episodes=EPISODES, strange=strange) for seed in range(SEEDS)]
    return [mean(curve[-LAST:]) for curve in curves]


def measured(*, model: bool) -> list[MeasuredSegment]:
    """The table's segments, each with the strategies that a run would have there."""
    rows = json.loads(TABLE.read_text("utf-8"))["segments"].values()
    names = [s.value for s in offered(uses_model=model, recalls=False, pynguin=True)]
    at_times = [Strategy.RECALLED.value] if model else []
    return segments_of(list(rows), names, model="local" if model else "none", at_times=at_times)


def main() -> None:
    """Print a line a player; draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draw", type=Path)
    parser.add_argument("--model", action="store_true", help="with the strategies that ask the local model")
    given = parser.parse_args()
    segments = measured(model=given.model)
    fixed = next(iter(segments[0].rewards))
    print(f"{len(segments)} segments of {len({s.package for s in segments})} packages")  # noqa: T201
    for strange in (False, True):
        print("the last 50 on packages of which nothing was learnt" if strange else "the last 50")  # noqa: T201
        tell(segments, strange=strange)
    if given.draw:
        given.draw.write_text(draw(segments, fixed), "utf-8")


def tell(segments: Sequence[MeasuredSegment], *, strange: bool) -> None:
    """A line a player, and how much the learner is over it."""
    learned = last_means(segments, "learned", strange=strange)
    everywhere = [name for name in segments[0].rewards if all(name in s.rewards for s in segments)]
    for player in ["learned", "random", "best", *everywhere]:
        values = last_means(segments, player, strange=strange)
        found = interval(values)
        line = f"{player:12} {found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"
        if player != "learned":
            gain = interval([a - b for a, b in zip(learned, values, strict=True)])
            line += f"   learned is {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        print(line)  # noqa: T201


def draw(segments: Sequence[MeasuredSegment], fixed: str) -> str:
    """The mean over seeds of each player's curve, smoothed over ten episodes, with its interval."""
    names = {"learned": "learned", fixed: f"fixed default ({Strategy(fixed)})", "random": "random"}
    series: dict[str, list[float]] = {}
    bands: dict[str, list[tuple[float, float]]] = {}
    for player, name in names.items():
        curves = [
            moving_mean(play(segments, player, seed=seed, episodes=EPISODES), 10) for seed in range(SEEDS)
        ]
        found = [interval([curve[n] for curve in curves]) for n in range(EPISODES)]
        series[name] = [each.mean for each in found]
        bands[name] = [(each.low, each.high) for each in found]
    title = f"Mean reward by episode, {SEEDS} seeds, 95 % intervals"
    return svg_curve(series, title=title, x="episode (a run on one package)", bands=bands)


if __name__ == "__main__":
    main()
