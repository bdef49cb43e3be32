"""The page of other robots: its table, and its sentences on policies below the planner."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.other_robots_page import main, robots_page


def controllers(policy: float, reached: float, planner: float) -> dict[str, Any]:
    """Figures with these shares within 20 mm: clear and reached of the policy, clear of others."""
    common = {"seconds": 5.0, "episodes": 100, "controlled": {"episodes": 20}}
    compute = {"compute": {"mean_s": 4e-4}}
    other = common | compute | {"clear_all": {"0.01": 0.5, "0.02": 0.6}}
    return {
        "policy": other
        | {"clear_all": {"0.01": 0.9, "0.02": policy}, "success_all": {"0.02": reached}},
        "least squares": other,
        "multi-start": common
        | {"clear_all": {"0.01": planner, "0.02": planner}, "plan": {"mean_s": 0.025}},
        "QP": other,
    }


FACT = {"source": "[model](https://x.org)", "controls": "2 x 7", "training_cpu_s": 270, "notes": []}


def test_a_row_for_each_robot_and_a_sentence_where_the_planner_is_better(tmp_path: Path) -> None:
    results = {"even": controllers(0.97, 0.98, 0.99), "low": controllers(0.90, 0.96, 0.99)}
    facts = {"even": FACT | {"notes": ["no decision."]}, "low": FACT, "machine": "On two cores."}
    file = tmp_path / "other-robots.json"
    file.write_text(json.dumps({"results": results, "robots": facts}))
    assert main([str(file)]) == 0
    page = (tmp_path / "other-robots.md").read_text()
    assert (
        "| **even**, [model](https://x.org) | 2 x 7 | 4.5 min | 90% / 97% | 50% / 60% | 99% / 99% "
        "| 50% / 60% | 0.40, 0.40, 0.40 ms | 25 ms |\n"
    ) in page
    # 97 is 99 less 2; of low, 4 % are not reached, 6 % reached and near
    assert "- **low**: 90% within 20 mm and never near, the planner 99%. 4% of the" in page
    assert "6% were reached with" in page and "- **even**: 97%" not in page
    assert "--goals 100 --controlled 20" in page and "- **even**: no decision.\n" in page
    assert "start included.\nOn two cores.\n" in page


def test_bad_input_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no results"):
        robots_page({}, {})
    with pytest.raises(KeyError, match="low"):
        robots_page({"low": controllers(0.9, 0.9, 0.9)}, {})
    assert main([]) == main([str(tmp_path / "none")]) == 2
    assert "FILE.json" in capsys.readouterr().err
