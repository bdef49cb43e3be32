"""What pages and README say of the papers' claims agrees with the tables of the pages."""

from pathlib import Path

import pytest

from polyreach.experiments import EXPERIMENTS
from polyreach.experiments.claims import HEADING, findings, with_findings
from polyreach.experiments.experiment import Experiment, Verdict

ROOT = Path(__file__).parents[2]
PAGES = {
    experiment.name: ROOT / "docs" / f"{experiment.name}.md"
    for experiment in EXPERIMENTS.values()
    if (ROOT / "docs" / f"{experiment.name}.md").exists()
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_of_its_claims_what_its_tables_say(name: str) -> None:
    page = PAGES[name].read_text()
    assert page == with_findings(EXPERIMENTS[name], page)
    assert (HEADING in page) == bool(EXPERIMENTS[name].claims)


def readme_row(experiment: Experiment) -> str:
    """What README is to say of the experiment's page."""
    found = findings(experiment, PAGES[experiment.name].read_text())
    decided: dict[Verdict, str] = {}
    for verdict in ("holds", "opposite"):
        envs: dict[tuple[str, str], list[str]] = {}
        for one in found:
            if one.verdict == verdict:
                envs.setdefault((one.claim.better, one.claim.worse), []).append(one.env)
        below: dict[tuple[str, str], list[str]] = {}
        for (better, worse), on in envs.items():
            below.setdefault((better, ", ".join(on)), []).append(worse)
        decided[verdict] = "; ".join(
            f"{better} above {' and '.join(names)} ({where})"
            for (better, where), names in below.items()
        )
    undecided = sum(one.verdict == "open" for one in found)
    link = f"[{experiment.title}](docs/{experiment.name}.md)"
    return f"| {link} | {decided['holds']} | {decided['opposite']} | {undecided} |"


@pytest.mark.parametrize("name", [name for name in PAGES if EXPERIMENTS[name].claims])
def test_readme_says_of_the_claims_what_the_pages_say(name: str) -> None:
    assert readme_row(EXPERIMENTS[name]) in (ROOT / "README.md").read_text().splitlines()
