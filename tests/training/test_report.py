"""The report: its statistics by hand, and an experiment that stops, goes on and is drawn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from polyreach.errors import UserError
from polyreach.experiments import DIGRAD_FIG4, EXPERIMENTS, Experiment
from polyreach.report import (
    ReportOptions,
    bootstrap_interval,
    interquartile_mean,
    is_complete,
    jobs_of,
    write_report,
)
from polyreach.run import RunFolder


def test_interquartile_mean_by_hand() -> None:
    assert interquartile_mean(np.array([100.0, 1.0, 2.0, -50.0])) == pytest.approx(1.5)
    assert interquartile_mean(np.arange(8.0)) == pytest.approx(3.5)
    # three values: quartiles at 0.75 and 2.25, so a quarter of the first, the second, a quarter of
    # the third
    assert interquartile_mean(np.array([0.0, 1.0, 5.0])) == pytest.approx(
        (0.25 * 0 + 1 + 0.25 * 5) / 1.5
    )
    assert interquartile_mean(np.array([7.0])) == 7.0
    assert interquartile_mean(np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 4.0, 6.0]])).tolist() == [
        1.0,
        3.0,
    ]


def test_bootstrap_interval_holds_the_mean_and_shrinks_with_more_seeds() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.normal(2.0, 1.0, (3, 2)), rng.normal(2.0, 1.0, (100, 2))
    low, high = bootstrap_interval(many)
    assert low < 2.0 < high and high - low < 0.5
    narrow = high - low
    low, high = bootstrap_interval(few)
    assert low <= interquartile_mean(few.ravel()) <= high and high - low > narrow
    assert bootstrap_interval(np.full((3, 2), 1.5)) == (1.5, 1.5)


def test_the_comparison_of_the_paper_has_all_its_variants() -> None:
    jobs = jobs_of(DIGRAD_FIG4, ReportOptions("digrad-fig4"))
    assert (
        len(jobs)
        == len({job.folder for job in jobs})
        == len({job.command for job in jobs})
        == 2 * 6 * 3
    )
    assert {job.env for job in jobs} == {"planar8", "humanoid27"}
    assert sum(job.variant.method == "ddpg" for job in jobs) == 2 * 2 * 3


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    small = """--preset paper --num-envs 8 --eval-every 400 --eval-goals 4 --method-config.hidden 8
     --method-config.batch-size 8 --method-config.learning-starts 80
     --env-config.configurations 50""".split()
    variants = (DIGRAD_FIG4.variants[0], DIGRAD_FIG4.variants[4])
    tiny = replace(
        DIGRAD_FIG4,
        name="tiny",
        envs=("planar8",),
        variants=variants,
        options=tuple(small),
        steps=1200,
    )
    monkeypatch.setitem(EXPERIMENTS, "tiny", tiny)
    return tiny


def test_an_experiment_is_run_once_and_reported(tiny: Experiment, tmp_path: Path) -> None:
    options = ReportOptions("tiny", seeds=1, runs=tmp_path / "runs", out=tmp_path / "docs")
    write_report(options, Console(quiet=True))
    page = (tmp_path / "docs" / "tiny.md").read_text()
    assert "| DiGrad, single critic, heuristic |" in page and "| DDPG |" in page
    assert (tmp_path / "docs" / "tiny.png").stat().st_size > 10_000
    jobs = jobs_of(tiny, options)
    assert all(is_complete(job) for job in jobs)
    record = RunFolder(jobs[0].folder).read_metrics()[-1]
    assert record["step"] == 1200
    before = {job.folder: (job.folder / "metrics.jsonl").stat().st_mtime_ns for job in jobs}
    write_report(options, Console(quiet=True))
    assert {job.folder: (job.folder / "metrics.jsonl").stat().st_mtime_ns for job in jobs} == before


def test_a_folder_of_another_run_is_not_taken_for_complete(
    tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ReportOptions("tiny", steps=80, seeds=1, runs=tmp_path / "runs", out=tmp_path)
    monkeypatch.setitem(EXPERIMENTS, "tiny", replace(tiny, variants=tiny.variants[:1]))
    write_report(options, Console(quiet=True))
    with pytest.raises(UserError, match="run of another configuration: steps is 80 there, 90 here"):
        write_report(replace(options, steps=90), Console(quiet=True))


def test_a_failing_run_is_named_with_its_log(
    tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(tiny, options=(*tiny.options, "--device", "tpu"))
    monkeypatch.setitem(EXPERIMENTS, "tiny", broken)
    with pytest.raises(
        UserError, match="polyreach train digrad planar8 .* ended with 2, see .*log.txt"
    ):
        write_report(
            ReportOptions("tiny", seeds=1, runs=tmp_path / "runs", out=tmp_path / "docs"),
            Console(quiet=True),
        )
