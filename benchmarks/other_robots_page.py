"""The page of robots that were not part of development, each with a robot.yaml of its own.

    python -m benchmarks.other_robots_page docs/other-robots.json

The file has "results", the content of the reaching.json that benchmarks.reaching writes, and
"robots": facts by robot, which are "source" (markdown), "controls", "training_cpu_s" [s] and
"notes" (sentences), and "machine", a sentence. The page is written beside it.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.reaching_page import COLORS, Figures, Results, compute_ms, markdown_table

COMMANDS = ("policy", "least squares", "QP")  # all but the planner
RADII = ("0.01", "0.02")  # [m]
MARGIN = 0.02  # share of the goal sets by which a policy may be below the planner

INTRODUCTION = """\
# Other robots

Robots of other projects, each with a `robot.yaml` as [Your own robot](your-robot.md) describes:
what the first command left open was decided. Each policy was trained once, by the default command:

    polyreach robot new my_robot.urdf --out my_robot.yaml
    polyreach robot check my_robot.yaml
    polyreach train apg my_robot.yaml --out runs/mine
    polyreach export runs/mine --out mine.onnx
    python -m benchmarks.reaching my_robot.yaml=mine.onnx --goals {goals} --controlled {controlled}

Controllers and goals are those of [Reaching, compared](reaching.md): {goals} goal sets from the
full range of the joints, the same for all controllers, {seconds:g} s each, in the dynamic
simulation. The table shows the share of them in which all effectors were within 10 / 20 mm at the
end, and no two links within the stop distance on the way. CPU times are means of one thread.
Training is the CPU time of the training command, start included.
{machine}

"""


def robots_page(results: Results, facts: dict[str, Any]) -> str:
    """Markdown with one row a robot, and sentences on policies that are below the planner.

    Raises KeyError for a robot of the results without facts, ValueError without any result.
    """
    if not results:
        raise ValueError("no results: measure a robot with benchmarks.reaching")
    first = next(iter(next(iter(results.values())).values()))
    header = ["robot", "controlled joints", "training", *COLORS]
    header += [f"CPU per command: {', '.join(COMMANDS)}", "CPU per plan"]
    rows = []
    for robot, controllers in results.items():
        fact = facts[robot]
        rows.append(
            [
                f"**{robot}**, {fact['source']}",
                fact["controls"],
                f"{fact['training_cpu_s'] / 60:.1f} min",
                *(clear_text(controllers[name]) for name in COLORS),
                ", ".join(f"{compute_ms(controllers[name]):.2f}" for name in COMMANDS) + " ms",
                f"{compute_ms(controllers['multi-start']):.0f} ms",
            ]
        )
    notes = [f"- **{robot}**: {text}\n" for robot in results for text in facts[robot]["notes"]]
    introduction = INTRODUCTION.format(
        goals=first["episodes"],
        controlled=first.get("controlled", {}).get("episodes", 0),
        seconds=first["seconds"],
        machine=facts["machine"],
    )
    return (
        f"{introduction}{markdown_table(header, rows)}\n"
        f"## What does not hold\n\n{''.join(shortfalls(results))}\n"
        f"## Notes on each robot\n\n{''.join(notes)}"
    )


def clear_text(figures: Figures) -> str:
    """Shares of goal sets reached within RADII, never near."""
    return " / ".join(f"{figures['clear_all'][radius]:.0%}" for radius in RADII)


def shortfalls(results: Results) -> list[str]:
    """A sentence for each robot whose policy is more than MARGIN below the planner, with the shares
    that were not reached, and reached but near; one sentence if there is none.
    """
    lines, radius = [], RADII[-1]
    for robot, controllers in results.items():
        policy, best = controllers["policy"], controllers["multi-start"]["clear_all"][radius]
        clear, reached = policy["clear_all"][radius], policy["success_all"][radius]
        if clear < best - MARGIN - 1e-9:
            lines.append(
                f"- **{robot}**: {clear:.0%} within 20 mm and never near, the planner {best:.0%}. "
                f"{1 - reached:.0%} of the goal sets were not reached, {reached - clear:.0%} were "
                "reached with two links within the stop distance on the way.\n"
            )
    return lines or ["No policy is more than 2 points below the planner within 20 mm.\n"]


def main(argv: list[str] | None = None) -> int:
    """Write the page of the file that the one argument names."""
    words = sys.argv[1:] if argv is None else argv
    if len(words) != 1 or not Path(words[0]).is_file():
        print("usage: python -m benchmarks.other_robots_page FILE.json", file=sys.stderr)
        return 2
    file = Path(words[0])
    content = json.loads(file.read_text(encoding="utf-8"))
    page = robots_page(content["results"], content["robots"])
    file.with_suffix(".md").write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
