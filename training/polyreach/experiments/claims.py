"""What the runs of an experiment say of its paper's claims: the section "What holds" of a page.

Verdicts are read off the tables of the page, so that nothing in the section can differ from them.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from polyreach.experiments.experiment import Claim, Experiment, Verdict

HEADING = "## What holds"
LEAST_RUNS = 3  # of each variant, for a verdict
VERDICTS: dict[Verdict, str] = {
    "holds": "holds",
    "opposite": "the opposite holds",
    "open": "undecided",
}


class Figure(NamedTuple):
    """What a table says of a variant."""

    text: str
    """Interquartile mean and interval, as printed."""
    interval: tuple[float, float] | None
    """None with fewer than LEAST_RUNS runs."""


class Finding(NamedTuple):
    """What the runs say of a claim on an environment."""

    claim: Claim
    env: str
    better: Figure
    worse: Figure
    verdict: Verdict


def read_tables(page: str) -> dict[str, dict[str, Figure]]:
    """The figure of each variant on each environment, from a page's Markdown."""
    tables: dict[str, dict[str, Figure]] = {}
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        env, _, rest = section.partition("\n")
        rows = [
            [cell.strip() for cell in line.strip("|").split(" | ")]
            for line in rest.strip().split("\n\n", 1)[0].splitlines()
            if line.startswith("|")
        ]
        # header: variant, runs, measure (IQM), interval, ...
        if rows and rows[0][:2] == ["variant", "runs"]:
            tables[env] = {row[0]: _figure(*row[1:4]) for row in rows[2:]}
    return tables


def _figure(runs: str, mean: str, interval: str) -> Figure:
    if " to " not in interval:
        return Figure(mean, None)
    low, high = (float(text.strip("%").replace(",", "")) for text in interval.split(" to "))
    enough = int(runs.split(" ")[0]) >= LEAST_RUNS
    return Figure(f"{mean} ({interval})", (low, high) if enough else None)


def judge(better: Figure, worse: Figure) -> Verdict:
    """What the intervals of two variants say of the claim that the first is better: decided where
    they do not touch.
    """
    if better.interval is None or worse.interval is None:
        return "open"
    if better.interval[0] > worse.interval[1]:
        return "holds"
    return "opposite" if better.interval[1] < worse.interval[0] else "open"


def findings(experiment: Experiment, page: str) -> list[Finding]:
    """What the tables of the experiment's page say of its claims."""
    tables = read_tables(page)
    return [
        Finding(claim, env, *pair, judge(*pair))
        for claim in experiment.claims
        for env in claim.envs or experiment.envs
        for pair in [(tables[env][claim.better], tables[env][claim.worse])]
    ]


def with_findings(experiment: Experiment, page: str) -> str:
    """The page with its section "What holds", the last one, written anew."""
    tables = page.partition(f"\n{HEADING}\n")[0]
    found = findings(experiment, tables)
    return "\n".join([tables, *_section(found)]) + "\n" if found else tables


def _section(found: Sequence[Finding]) -> list[str]:
    lines = [
        HEADING,
        "",
        "What the papers claim, on these tasks or on others, and what these runs say: a claim "
        "holds where the interval of the variant that it names first lies above that of the other, "
        f"and is undecided where the two overlap or one has fewer than {LEAST_RUNS} runs.",
        "",
        "| claim | environment | first | second | verdict |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {one.claim.better} above {one.claim.worse} | {one.env} | {one.better.text} | "
        f"{one.worse.text} | {VERDICTS[one.verdict]} |"
        for one in found
    ]
    # written for a verdict, a reason is not shown with another one
    reasons = dict.fromkeys(
        text for one in found if (text := one.claim.why.get((one.env, one.verdict)))
    )
    if reasons:
        lines += ["", "Why we think so:", "", *(f"- {text}" for text in reasons)]
    return lines
