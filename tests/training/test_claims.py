"""What a page says of its paper's claims, against tables written by hand."""

from dataclasses import replace

import pytest

from polyreach.errors import UserError
from polyreach.experiments.claims import findings, read_tables, with_findings
from polyreach.experiments.experiment import Claim, Experiment, Variant

PAGE = """# A page

Text.

## cheetah

| variant | runs | return (IQM) | interval | mean |
| --- | --- | --- | --- | --- |
| a | 3 of 3 | 1,500 | 1,400 to 1,600 | 1,500 |
| b, and more | 3 of 3 | -10 | -20 to 900 | 10 |
| c | 1 of 3 | 3,000 | one run | 3,000 |
| f | 2 of 3 | 9,000 | 8,900 to 9,100 | 9,000 |
| d | 0 of 3 | not run | not run | not run |
| e | 3 of 3 | 1,300 | 900 to 1,401 | 1,300 |

Return of each task: mean over seeds (range over seeds).

| variant | Plain |
| --- | --- |
| a | 1,500 |

## Weights of the tasks

![weights](weights.png)
"""

EXPERIMENT = Experiment(
    name="claimed",
    title="Claimed",
    paper="nobody",
    envs=("cheetah",),
    variants=tuple(Variant(label, "a2c") for label in ("a", "b, and more", "c", "d", "e", "f")),
    steps=100,
    seeds=3,
    measure="return",
)


def test_tables_of_results_are_read_and_no_others() -> None:
    tables = read_tables(PAGE)
    assert list(tables) == ["cheetah"]
    assert tables["cheetah"]["b, and more"] == ("-10 (-20 to 900)", (-20.0, 900.0))
    assert tables["cheetah"]["c"] == ("3,000", None)
    assert tables["cheetah"]["d"] == ("not run", None)
    percent = PAGE.replace("1,400 to 1,600", "37.5% to 50.0%")
    assert read_tables(percent)["cheetah"]["a"].interval == (37.5, 50.0)


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [
        ("a", "b, and more", "holds"),
        ("b, and more", "a", "opposite"),
        ("a", "e", "open"),  # the intervals overlap by 1
        ("b, and more", "e", "open"),  # they touch
        ("a", "c", "open"),
        ("f", "a", "open"),  # two runs
        ("d", "a", "open"),
    ],
)
def test_verdicts(better: str, worse: str, verdict: str) -> None:
    experiment = replace(EXPERIMENT, claims=(Claim(better, worse),))
    assert [one.verdict for one in findings(experiment, PAGE)] == [verdict]


def test_the_section_gives_the_reason_of_its_verdict_only() -> None:
    why = {("cheetah", "holds"): "More data.", ("cheetah", "opposite"): "Less data."}
    experiment = replace(EXPERIMENT, claims=(Claim("a", "b, and more", why=why),))
    page = with_findings(experiment, PAGE)
    assert page.startswith(PAGE) and page.endswith("Why we think so:\n\n- More data.\n")
    row = "| a above b, and more | cheetah | 1,500 (1,400 to 1,600) | -10 (-20 to 900) | holds |"
    assert row in page
    # written again it is the same, and from other figures another
    assert with_findings(experiment, page) == page
    other = with_findings(experiment, page.replace("1,400 to 1,600", "-90 to -80"))
    assert other.endswith("- Less data.\n") and "| the opposite holds |" in other
    assert with_findings(EXPERIMENT, page) == PAGE  # no claims, no section


def test_a_claim_about_no_variant_is_refused() -> None:
    with pytest.raises(UserError, match="'claimed' has no variant 'g'"):
        replace(EXPERIMENT, claims=(Claim("a", "g"),))
