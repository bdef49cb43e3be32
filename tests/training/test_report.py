"""The report: its statistics by hand, and an experiment that stops, resumes and is plotted."""

import io
import json
import math
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import numpy as np
import pytest
from command_line import run
from matplotlib.figure import Figure
from rich.console import Console

from polyreach.cli import main
from polyreach.commands.train import train_config
from polyreach.envs.cheetahs import CheetahConfig
from polyreach.envs.reach.config import ReachConfig
from polyreach.errors import UserError
from polyreach.experiments import EXPERIMENTS, runner
from polyreach.experiments.claims import read_tables
from polyreach.experiments.curves import Panel, draw_curves, draw_weights, panels_of
from polyreach.experiments.digrad import DIGRAD_FIG4
from polyreach.experiments.engines import local
from polyreach.experiments.engines.engine import Stopped
from polyreach.experiments.engines.local import LocalEngine
from polyreach.experiments.experiment import Column, Experiment, Override, Variant, override
from polyreach.experiments.job import Job, is_complete, jobs_of
from polyreach.experiments.page import describe
from polyreach.experiments.report import ReportOptions, command_of, write_report
from polyreach.experiments.results import (
    Result,
    bootstrap_interval,
    compare_order,
    interquartile_mean,
)
from polyreach.experiments.runner import SLICE_OVER
from polyreach.methods.deterministic import DeterministicConfig
from polyreach.methods.picor import PiCorConfig
from polyreach.runs import training
from polyreach.runs.checkpoint import list_checkpoints, read_checkpoint, save_checkpoint, step_of
from polyreach.runs.folder import RunFolder
from polyreach.runs.transfer import play_run


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
    few, many = rng.normal(2.0, 1.0, 3), rng.normal(2.0, 1.0, 100)
    low, high = bootstrap_interval(many)
    assert low < 2.0 < high and high - low < 0.7
    narrow = high - low
    low, high = bootstrap_interval(few)
    assert low <= interquartile_mean(few) <= high and high - low > narrow
    assert bootstrap_interval(np.full(3, 1.5)) == (1.5, 1.5)
    # one draw in 27 takes the least run three times, and one the greatest
    assert bootstrap_interval(np.array([1.0, 2.0, 3.0])) == (1.0, 3.0)


def test_bootstrap_interval_covers_the_mean_where_tasks_share_their_run() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        # ten runs of eight tasks each; what all tasks of a run share is as large as the rest
        runs = rng.normal(size=(10, 1)) + rng.normal(size=(10, 8))
        low, high = bootstrap_interval(runs.mean(axis=1))
        covered.append(low < 0.0 < high)
    assert 0.85 < np.mean(covered) < 0.99


def test_order_of_variants_by_hand() -> None:
    ours = {"a": 3.0, "b": 1.0, "c": 9.0, "not published": 5.0}
    theirs = {"not run": 7.0, "b": 10.0, "c": 30.0, "a": 40.0}
    places, correlation = compare_order(ours, theirs)
    assert places == {"a": (2, 1), "b": (3, 3), "c": (1, 2)}
    # 1 - 6 sum d^2 / n (n^2 - 1), d = 1, 0, -1
    assert correlation == pytest.approx(1 - 6 * 2 / (3 * 8))
    assert compare_order(ours, {"a": -3.0, "b": -1.0, "c": -9.0})[1] == pytest.approx(-1.0)
    assert math.isnan(compare_order(ours, {"a": 1.0})[1]) and not compare_order(ours, {})[0]


def test_the_comparison_of_the_paper_has_all_its_variants() -> None:
    jobs = jobs_of(DIGRAD_FIG4, Path("runs"))
    assert (
        len(jobs)
        == len({job.folder for job in jobs})
        == len({job.config.command for job in jobs})
        == 2 * 8 * 3
    )
    assert {job.config.env for job in jobs} == {"planar8", "humanoid27"}
    assert sum(job.variant.method == "ddpg" for job in jobs) == 2 * 2 * 3


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    small = override(DeterministicConfig, hidden=(8,), batch_size=8, learning_starts=80)
    variants = (DIGRAD_FIG4.variants[0], DIGRAD_FIG4.variants[4])
    tiny = replace(
        DIGRAD_FIG4,
        claims=(),
        name="tiny",
        envs=("planar8",),
        variants=variants,
        overrides=(small, override(ReachConfig, configurations=50)),
        num_envs=8,
        eval_every=400,
        eval_goals=4,
        steps=1200,
    )
    monkeypatch.setitem(EXPERIMENTS, "tiny", tiny)
    return tiny


@pytest.fixture
def trained_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are trained by this process, which has PyTorch loaded, instead of a process each."""

    def start(words: list[str], stdout: TextIO, **_: Any) -> Any:
        done = run(*words[3:])  # after `python -m polyreach.cli`
        stdout.write(done.stdout + done.stderr)
        return SimpleNamespace(poll=lambda: done.returncode, wait=lambda: done.returncode)

    popen = SimpleNamespace(Popen=start, STDOUT=subprocess.STDOUT)
    monkeypatch.setattr(local, "subprocess", popen)
    # signals are for the main thread alone
    unheard = nullcontext(SimpleNamespace(received=None))
    monkeypatch.setattr(training, "Interrupt", lambda: unheard)


def test_an_experiment_is_run_once_and_reported(tiny: Experiment, tmp_path: Path) -> None:
    options = ReportOptions(("tiny",), seeds=1, runs=tmp_path / "runs", out=tmp_path / "docs")
    write_report(options, Console(quiet=True))
    page = (tmp_path / "docs" / "tiny.md").read_text()
    assert "| DiGrad, single critic, heuristic |" in page and "| DDPG |" in page
    assert (tmp_path / "docs" / "tiny.png").stat().st_size > 10_000
    jobs = jobs_of(tiny, options.runs, seeds=1)
    assert all(is_complete(job) for job in jobs)
    record = RunFolder(jobs[0].folder).read_metrics()[-1]
    assert record["step"] == 1200
    before = {job.folder: (job.folder / "metrics.jsonl").stat().st_mtime_ns for job in jobs}
    write_report(options, Console(quiet=True))
    assert {job.folder: (job.folder / "metrics.jsonl").stat().st_mtime_ns for job in jobs} == before


def test_a_folder_of_another_run_is_not_taken_for_complete(
    tiny: Experiment, trained_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ReportOptions(("tiny",), steps=80, seeds=1, runs=tmp_path / "runs", out=tmp_path)
    monkeypatch.setitem(EXPERIMENTS, "tiny", replace(tiny, variants=tiny.variants[:1]))
    write_report(options, Console(quiet=True))
    with pytest.raises(UserError, match="run of another configuration: steps is 80 there, 90 here"):
        write_report(replace(options, steps=90), Console(quiet=True))


def test_a_failing_run_is_named_with_its_log(
    tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(tiny, device="tpu")
    monkeypatch.setitem(EXPERIMENTS, "tiny", broken)
    with pytest.raises(
        UserError, match="polyreach train digrad planar8 .* ended with 2, see .*log.txt"
    ):
        write_report(
            ReportOptions(("tiny",), seeds=1, runs=tmp_path / "runs", out=tmp_path / "docs"),
            Console(quiet=True),
        )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_run_of_every_experiment_is_the_command_that_it_prints(name: str) -> None:
    experiment = EXPERIMENTS[name]
    jobs = jobs_of(experiment, Path("the runs"), seeds=1)
    assert len({str(job.config) for job in jobs}) == len({job.folder for job in jobs}) == len(jobs)
    for job in jobs:
        config = job.config
        assert train_config(shlex.split(config.command)[2:])[1] == config
        assert config.steps == (job.variant.steps or experiment.steps)
        assert config.device == experiment.device
        assert config.num_envs % max(1, len(config.env_spec.tasks)) == 0


def test_run_folders_keep_their_names() -> None:
    experiment = EXPERIMENTS["multitask-fine-tuning"]
    jobs = jobs_of(experiment, Path("runs"))
    assert len(jobs) == 2 * 4 * 3
    assert str(jobs[-1].folder) == ("runs/multitask-fine-tuning/cheetah-smallleg-3-fine-tuning-s2")
    assert str(jobs[-1].start) == "runs/multitask-fine-tuning/cheetah-smallfoot-0-a2c-s2"


def test_a_run_folder_with_an_earlier_name_of_the_method_is_found(tmp_path: Path) -> None:
    experiment = replace(FIGURES, variants=(Variant("independent SAC", "independent-sac"),))
    (job,) = jobs_of(experiment, tmp_path, seeds=1)
    assert job.folder == tmp_path / "figures" / "cheetah8-0-independent-sac-s0"
    old = RunFolder(tmp_path / "figures" / "cheetah8-0-sac-s0")
    old.create(job.config)
    stored = json.loads(old.config_file.read_text())
    stored["config"]["method"] = "sac"
    old.config_file.write_text(json.dumps(stored))
    old.log({"step": 1000})
    (job,) = jobs_of(experiment, tmp_path, seeds=1)
    assert job.folder == old.path and is_complete(job)


def test_a_setting_that_a_method_does_not_have_is_refused_with_the_legal_ones() -> None:
    with pytest.raises(UserError, match="PiCorConfig has no setting 'lambda_' .legal: hidden, "):
        override(PiCorConfig, lambda_=1.0)  # type: ignore[call-arg]
    with pytest.raises(
        UserError,
        match="PiCorConfig do not apply to 'first' on 'cheetah8' .legal: those of SACConfig and "
        "CheetahConfig",
    ):
        replace(FIGURES, overrides=(override(PiCorConfig, correction=False),))


def test_a_setting_out_of_range_is_refused_when_the_experiment_is_defined() -> None:
    with pytest.raises(UserError, match="horizon is 0, but must be at least 1"):
        replace(FIGURES, overrides=(override(CheetahConfig, horizon=0),))


def test_a_variant_follows_a_variant_of_its_experiment_that_it_can_start_from() -> None:
    scratch = Variant("scratch", "a2c")
    tuned = Variant("tuned", "fine-tuning", after=scratch)
    with pytest.raises(UserError, match="'tuned' follows a variant that is not in 'figures'"):
        replace(FIGURES, variants=(tuned,))
    other = replace(FIGURES, variants=(scratch, Variant("other", "mtsac", after=scratch)))
    with pytest.raises(UserError, match="SACConfig does not start from another run"):
        jobs_of(other, Path("runs"))


def test_settings_of_a_variant_replace_those_of_its_environment_and_of_all_runs() -> None:
    def horizon(steps: int) -> tuple[Override, ...]:
        return (override(CheetahConfig, horizon=steps),)

    first, second, _ = FIGURES.variants
    experiment = replace(
        FIGURES,
        envs=("cheetah8", "cheetah6"),
        variants=(replace(first, overrides=horizon(3)), second),
        overrides=horizon(1),
        env_overrides={"cheetah6": horizon(2)},
    )
    jobs = jobs_of(experiment, Path("runs"), seeds=1)
    assert [job.config.env_config.horizon for job in jobs] == [3, 1, 3, 2]  # type: ignore


def test_the_ablations_of_picor_are_switched_off() -> None:
    switches = {
        job.variant.label: (config.adaptive_weights, config.correction, dict(job.variant.published))
        for job in jobs_of(EXPERIMENTS["sac-mt10"], Path("runs"), seeds=1)
        for config in [job.config.method_config]
        if isinstance(config, PiCorConfig)
    }
    # Bai et al. 2023, Table 2
    assert switches == {
        "PiCor": (True, True, {"mt10": 0.733}),
        "PiCor, Ada off": (False, True, {"mt10": 0.600}),
        "PiCor, Cor off: SAC on one task at a time": (True, False, {"mt10": 0.240}),
    }


def test_runs_of_picor_of_version_0_2_are_those_with_common_random_numbers(tmp_path: Path) -> None:
    jobs = jobs_of(EXPERIMENTS["sac-planar8"], tmp_path, seeds=1)
    (job,) = (job for job in jobs if job.folder.name.split("-")[1] == "7")
    assert job.variant.label == "PiCor, common random numbers" and job.config.method == "picor"
    folder = RunFolder(job.folder)
    folder.create(job.config)
    content = json.loads(folder.config_file.read_text())
    for name in ("common_noise", "baseline_samples"):
        del content["config"]["method_config"][name]
    folder.config_file.write_text(json.dumps(content))
    folder.log({"step": job.config.steps})
    assert is_complete(job)
    (now,) = (job for job in jobs if job.variant.label == "PiCor")
    with pytest.raises(UserError, match="common_noise is True there, False here"):
        is_complete(replace(job, config=now.config))


FIGURES = Experiment(
    name="figures",
    title="Figures",
    paper="nobody",
    envs=("cheetah8",),
    variants=(
        Variant("first", "mtsac", published={"cheetah8": 0.5}),
        Variant("second", "picor"),
        Variant("third", "ktm", published={"cheetah8": 0.25}),
    ),
    steps=1000,
    seeds=2,
    measure="success",
    columns=(Column("error [mm]", "error_median", "{:.0f}", factor=1e3, median=True),),
    published="A paper",
)


def stored(experiment: Experiment, runs: Path) -> list[Result]:
    """Both seeds of the first variant and one of the second, as if they had been run."""
    results = []
    for job in jobs_of(experiment, runs):
        index, seed = experiment.variants.index(job.variant), job.config.seed
        if index == 2 or (index, seed) == (1, 1):
            continue
        folder = RunFolder(job.folder)
        folder.create(job.config)
        for step in (0, 250, 500, 750, 1000):
            # what counts are the last three evaluations: seed 0 has 0, 0.5, 1; seed 1 always 1
            value = 1.0 if seed else max(0.0, step / 500 - 1)
            tasks = {"success_a": value, "success_b": 0.0, "error_median": 0.001 * step}
            folder.log({"step": step, "updates": step // 2, "wall_s": 3.6 * step, **tasks})
        results.append(Result(job.variant, job.config.env, seed, folder))
    return results


def test_the_table_by_hand(tmp_path: Path) -> None:
    results = stored(FIGURES, tmp_path)
    draw_curves(FIGURES, results, tmp_path / "figures.png")
    assert (tmp_path / "figures.png").stat().st_size > 10_000
    page = describe(FIGURES, results, 2)
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    header, _, first, second, third, tasks, _, *each = rows
    assert header == [
        *("variant", "runs", "success (IQM)", "interval", "mean", "published"),
        *("rank (published)", "error [mm]", "updates", "hours per run"),
    ]
    # seeds x tasks: (0.5, 0), (1, 0); the runs reached 0.25 and 0.5
    assert first[:6] == ["first", "2 of 2", "37.5%", "25.0% to 50.0%", "37.5%", "50.0%"]
    assert first[6:] == ["1 (1)", "750", "500", "1.00"]
    # one seed: (0.5, 0)
    figures = ["750", "500", "1.00"]
    assert second == ["second", "1 of 2", "25.0%", "one run", "25.0%", "", "", *figures]
    missing = ["not run"] * 3
    assert third == ["third", "0 of 2", *missing, "25.0%", "", *missing]
    assert tasks == ["variant", "a", "b"]
    assert each == [
        ["first", "75.0% (50.0% to 100.0%)", "0.0%"],
        ["second", "50.0%", "0.0%"],
        ["third", "not run", "not run"],
    ]
    assert "3 of 6 runs; 3.0 hours" in page and "Published: A paper." in page
    assert f"Its first run: `{results[0].config.command}`." in page
    assert "rank correlation" not in page  # of one variant
    assert "Runs are missing" in page and "4 episodes of each task" in page
    machine = results[0].folder.read_origins()[0]["machine"]
    assert f"Machine: {machine['cpu']} ({machine['cores']} cores, 1 thread used)" in page


def one_run_each(experiment: Experiment, successes: Sequence[float], runs: Path) -> list[Result]:
    """As if a run of each variant had been made, with one evaluation."""
    results = []
    for value, job in zip(successes, jobs_of(experiment, runs), strict=True):
        folder = RunFolder(job.folder)
        folder.create(job.config)
        numbers = {"step": 1000, "updates": 1, "wall_s": 1.0, "error_median": 0.1}
        folder.log({**numbers, "success_a": value, "success_b": value})
        results.append(Result(job.variant, job.config.env, job.config.seed, folder))
    return results


def test_the_order_of_the_variants_is_compared_with_the_papers(tmp_path: Path) -> None:
    first, second, third = FIGURES.variants
    published = [
        replace(second, published={"cheetah8": 0.9}),
        replace(third, method="independent-sac"),
    ]
    experiment = replace(FIGURES, variants=(first, *published), seeds=1)
    page = describe(experiment, one_run_each(experiment, (0.3, 0.2, 0.4), tmp_path), 1)
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("|")]
    assert [row[6] for row in rows[2:5]] == ["2 (2)", "3 (1)", "1 (3)"]
    assert "Order of the 3 variants: Spearman's rank correlation" in page and "is -1.00.\n" in page


def test_the_order_is_compared_once_more_with_as_many_updates(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    variants = [Variant(name, "mtsac", published={"cheetah8": i}) for i, name in enumerate(names)]
    control = Variant("a, as many updates", "mtsac", control_of="a")
    experiment = replace(FIGURES, variants=(*variants, control), seeds=1)
    page = describe(experiment, one_run_each(experiment, (0.1, 0.2, 0.3, 0.9), tmp_path), 1)
    # ranks 3, 2, 1 published; 1, 3, 2 with the control: 1 - 6 (4 + 1 + 1) / 24
    expected = "is 1.00. With 'a, as many updates' in place of 'a' it is -0.50.\n"
    assert expected in page
    with pytest.raises(UserError, match="no variant 'z' \\(legal: a, b, c, a, as many updates\\)"):
        replace(experiment, variants=(*variants, replace(control, control_of="z")))


def test_columns_and_weights_of_the_runs_that_recorded_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = Column("violated", "violated", "{:.0%}")
    experiment = replace(FIGURES, columns=(column,), note="A note.")
    results = stored(experiment, tmp_path)
    picture = tmp_path / "weights.png"
    assert not draw_weights(experiment, results, picture) and not picture.exists()
    (second,) = (run for run in results if run.variant.label == "second")
    records = second.folder.read_metrics()
    second.folder.metrics.unlink()
    for record in records:
        share = record["step"] / 1000
        # the first evaluation may come before the first update
        new = {"violated": share, "weight_a": share, "weight_b": 1 - share} if share else {}
        second.folder.log({**record, **new})
    figure: list[Figure] = []
    monkeypatch.setattr("matplotlib.pyplot.close", figure.append)
    fresh = [replace(run) for run in results]  # without the records that were read before
    assert draw_weights(experiment, fresh, picture) and picture.stat().st_size > 5_000
    (panel,) = figure[0].axes
    assert panel.get_title() == "cheetah8: second"
    lines = {line.get_label(): line for line in panel.get_lines()}
    assert lines.keys() == {"a", "b"}
    assert lines["b"].get_xdata().tolist() == [250, 500, 750, 1000]
    assert lines["b"].get_ydata().tolist() == [0.75, 0.5, 0.25, 0.0]
    page = describe(experiment, fresh, 2, picture.name)
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    place = rows[0].index("violated")
    # a run without them, the last three evaluations (0.5, 0.75, 1), no run
    assert [row[place] for row in rows[2:5]] == ["", "75%", "not run"]
    assert "A note." in page and "![weights](weights.png)" in page
    assert "![weights]" not in describe(experiment, fresh, 2)


def test_runs_with_one_evaluation_are_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = stored(FIGURES, tmp_path)
    for result in results:
        del result.records[:-1]
    figure: list[Figure] = []
    monkeypatch.setattr("matplotlib.pyplot.close", figure.append)
    draw_curves(FIGURES, results, tmp_path / "figures.png")
    points = figure[0].axes[0].get_lines()[0]
    assert points.get_marker() == "o" and points.get_xdata().tolist() == [1000, 1000]


def test_a_panel_for_each_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = replace(FIGURES, curves_by_task=True, envs=("cheetah8", "cheetah6"))
    results = stored(replace(experiment, envs=("cheetah8",)), tmp_path)
    assert panels_of(experiment, results) == [
        [Panel("cheetah8", "success", "a"), Panel("cheetah8", "success", "b")]
    ]
    figure: list[Figure] = []
    monkeypatch.setattr("matplotlib.pyplot.close", figure.append)
    draw_curves(experiment, results, tmp_path / "figures.png")
    panels = [ax for ax in figure[0].axes if ax.axison]
    assert [ax.get_title() for ax in panels] == ["cheetah8: a", "cheetah8: b"]
    curve, other = panels[0].get_lines()
    # of two tasks each makes half of the steps; seeds 0 and 1 in the mean
    assert curve.get_xdata().tolist() == [0, 125, 250, 375, 500]
    assert curve.get_ydata().tolist() == [0.5, 0.5, 0.5, 0.75, 1.0]
    assert other.get_ydata().tolist() == [0, 0, 0, 0.5, 1.0]
    assert panels[1].get_lines()[0].get_ydata().tolist() == [0.0] * 5


def test_several_experiments_by_one_command(
    tiny: Experiment, trained_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPERIMENTS, "other", replace(tiny, name="other", steps=400))
    options = ReportOptions(
        (tiny.name, "other"), seeds=1, only=("digrad",), runs=tmp_path / "runs", out=tmp_path
    )
    assert command_of(options).startswith(f"polyreach report {tiny.name} other --")
    assert write_report(options, Console(quiet=True)) == 0
    assert (tmp_path / f"{tiny.name}.md").exists() and (tmp_path / "other.md").exists()
    with pytest.raises(UserError, match="no experiment is named .legal: digrad-fig4, "):
        write_report(ReportOptions(()), Console(quiet=True))


def test_a_run_without_its_last_policy_is_not_complete(
    tiny: Experiment, trained_here: None, tmp_path: Path
) -> None:
    options = ReportOptions((tiny.name,), seeds=1, only=("digrad",), runs=tmp_path, out=tmp_path)
    assert write_report(options, Console(quiet=True)) == 0
    job = jobs_of(tiny, options.runs)[0]
    folder = job.folder / "checkpoints"
    state = read_checkpoint(list_checkpoints(folder)[0])
    for path in list_checkpoints(folder):
        path.unlink()
    assert is_complete(job)  # made elsewhere
    # killed after the last evaluation, before the checkpoint that follows it
    save_checkpoint(folder, 1192, state)
    assert not is_complete(job)
    save_checkpoint(folder, 1200, state)
    assert is_complete(job)


def test_a_partial_report_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPERIMENTS, "figures", FIGURES)
    words = ["report", "figures", "--partial", "--runs", str(tmp_path / "runs")]
    words += ["--out", str(tmp_path / "docs")]
    assert main(words) == 2 and not (tmp_path / "docs").exists()
    stored(FIGURES, tmp_path / "runs")
    before = sorted((tmp_path / "runs").rglob("*"))
    assert main(words) == 0
    assert sorted((tmp_path / "runs").rglob("*")) == before
    assert "| third | 0 of 2 | not run |" in (tmp_path / "docs" / "figures.md").read_text()


def test_a_report_can_be_made_where_the_runs_were_not(tmp_path: Path) -> None:
    job = jobs_of(FIGURES, tmp_path, device="cuda")[0]
    assert job.config.device == "cuda"
    folder = RunFolder(job.folder)
    folder.create(replace(job.config, device="cpu", threads=2, env_version="metaworld 0"))
    assert not is_complete(job)
    folder.log({"step": 1000})
    assert is_complete(job)
    method_config: Any = replace(job.config.method_config, gamma=0.5)
    other = replace(job, config=replace(job.config, method_config=method_config))
    with pytest.raises(UserError, match="gamma is 0.99 there, 0.5 here"):
        is_complete(other)


def test_only_some_methods_are_run(
    tiny: Experiment, trained_here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ReportOptions(
        ("tiny",), seeds=1, only=("ddpg",), runs=tmp_path / "runs", out=tmp_path / "docs"
    )
    assert write_report(options, Console(quiet=True)) == 0
    digrad, ddpg = jobs_of(tiny, options.runs, seeds=1)
    assert is_complete(ddpg) and not digrad.folder.exists()
    page = (tmp_path / "docs" / "tiny.md").read_text()
    assert "| DDPG | 1 of 1 |" in page
    assert "| DiGrad, single critic, heuristic | 0 of 1 | not run |" in page
    assert main(["report", "tiny", "--only", "mtsac"]) == 2
    assert "has no method 'mtsac' (legal: digrad, ddpg)" in capsys.readouterr().err


def newest(job: Job) -> int:
    """Step of the newest checkpoint."""
    checkpoints = list_checkpoints(job.folder / "checkpoints")
    return step_of(checkpoints[0]) if checkpoints else 0


@pytest.fixture
def endless(tiny: Experiment, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    endless = replace(tiny, variants=tiny.variants[:1], steps=10_000_000)
    monkeypatch.setitem(EXPERIMENTS, "tiny", endless)
    return endless


def sliced_clock(job: Job) -> Callable[[], float]:
    """Time that runs out when the run has an evaluation that it did not have before."""

    def count() -> int:
        return len(RunFolder(job.folder).read_metrics())

    before = count()
    return lambda: 1e9 if count() > before else 0.0


def test_a_slice_ends_with_a_checkpoint_and_the_next_resumes(
    endless: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ReportOptions(
        ("tiny",), seeds=1, slice_minutes=8, runs=tmp_path / "runs", out=tmp_path
    )
    (job,) = jobs_of(endless, options.runs, seeds=1)
    reached = [0]
    for _ in range(2):
        said = io.StringIO()
        monkeypatch.setattr(runner, "monotonic", sliced_clock(job))
        assert write_report(options, Console(file=said)) == SLICE_OVER
        assert "stopped after 8 minutes" in said.getvalue()
        assert command_of(options) in said.getvalue().replace("\n", " ")
        reached.append(newest(job))
        assert reached[-1] > reached[-2] and not (tmp_path / "tiny.md").exists()
    assert "going on at step" in (job.folder / "log.txt").read_text()


def test_a_signal_stops_all_runs_with_a_checkpoint(endless: Experiment, tmp_path: Path) -> None:
    options = ReportOptions(("tiny",), seeds=2, jobs=2, runs=tmp_path / "runs", out=tmp_path)
    jobs = jobs_of(endless, options.runs, seeds=2)

    def interrupt() -> None:
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline:
            if all(RunFolder(job.folder).metrics.exists() for job in jobs):
                break
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    status = write_report(options, Console(quiet=True))
    thread.join()
    assert status == 128 + signal.SIGTERM
    assert all(newest(job) >= 400 for job in jobs)


def test_the_resume_command_has_all_options() -> None:
    options = ReportOptions(
        ("sac-mt3",), only=("sac", "picor"), slice_minutes=8.5, out=Path("a b"), partial=True
    )
    assert command_of(options) == (
        "polyreach report sac-mt3 --slice-minutes 8.5 --only sac picor --partial --out 'a b'"
    )


FIRST = Variant("first", "a2c", steps=40)
AFTER = Experiment(
    name="after",
    title="One after the other",
    paper="nobody",
    envs=("cheetah",),
    variants=(
        Variant("second", "fine-tuning", (override(CheetahConfig, horizon=30),), after=FIRST),
        FIRST,
    ),
    num_envs=1,
    steps=80,
    seeds=2,
    measure="return",
)


def test_a_run_that_starts_from_another_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of(AFTER, tmp_path)
    second, first = (job.config for job in jobs[:2])
    assert (second.steps, first.steps) == (80, 40)
    assert (second.env_config.horizon, first.env_config.horizon) == (30, 1000)  # type: ignore
    assert second.method_config.start == f"{tmp_path}/after/cheetah-1-a2c-s0"  # type: ignore
    events = []

    def train(job: Job, checkpoint_minutes: float, stop: threading.Event) -> None:
        events.append(("begin", job.folder.name))
        time.sleep(0.2)
        events.append(("end", job.folder.name))

    monkeypatch.setattr(local, "run_job", train)
    assert runner.run_all(jobs, LocalEngine(2, 3.0), 0.0, Console(quiet=True)) == 0
    for seed in (0, 1):
        ended = events.index(("end", f"cheetah-1-a2c-s{seed}"))
        assert events.index(("begin", f"cheetah-0-fine-tuning-s{seed}")) > ended
    assert len(events) == 8


def test_a_run_that_another_process_trains_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPERIMENTS, "after", AFTER)
    job = jobs_of(AFTER, tmp_path)[0]
    calls: list[str] = []

    def start(words: list[str], **_: Any) -> Any:
        calls.append(words[words.index("--out") + 1])
        return SimpleNamespace(poll=lambda: 0, wait=lambda: 0)

    monkeypatch.setattr(local.subprocess, "Popen", start)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with RunFolder(job.folder).lock():
            done = pool.submit(local.run_job, job, 3.0, stop)
            time.sleep(0.5)
            assert not calls and not done.done()
        done.result(timeout=10)
        assert calls == [str(job.folder)]
        with RunFolder(job.folder).lock():
            done = pool.submit(local.run_job, job, 3.0, stop)
            stop.set()
            with pytest.raises(Stopped):
                done.result(timeout=10)
    assert len(calls) == 1


def test_a_run_whose_start_is_left_out_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPERIMENTS, "after", AFTER)
    options = ReportOptions(("after",), only=("fine-tuning",), runs=tmp_path, out=tmp_path)
    with pytest.raises(UserError, match="fine-tuning-s0' starts from .*1-a2c-s0', which is not"):
        write_report(options, Console(quiet=True))


def test_the_report_lists_episodes_of_the_last_policies_beside_the_papers(
    trained_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {("cheetah-smallfoot", "SmallFoot"): "1 ± 2", ("cheetah-smallfoot", "SmallLeg"): "3"}
    played = Experiment(
        name="played",
        title="Played",
        paper="nobody",
        envs=("cheetah-smallfoot", "cheetah-smallleg"),
        variants=(Variant("scratch", "a2c", published_returns=figures),),
        overrides=(override(CheetahConfig, horizon=20),),
        num_envs=1,
        eval_goals=1,
        steps=40,
        seeds=1,
        measure="return",
        rollouts=3,
        published="A paper",
    )
    monkeypatch.setitem(EXPERIMENTS, "played", played)
    options = ReportOptions(("played",), runs=tmp_path / "runs", out=tmp_path)
    assert write_report(options, Console(quiet=True)) == 0
    page = (tmp_path / "played.md").read_text()
    folder = tmp_path / "runs" / "played" / "cheetah-smallfoot-0-a2c-s0"
    rows = []
    for noise in (True, False):
        returns = [
            play_run(folder, env, 3, noise)[name]
            for env, name in zip(played.envs, ("SmallFoot", "SmallLeg"), strict=True)
        ]
        rows.append(" | ".join(f"{one.mean:,.0f} ± {one.std:,.0f}" for one in returns))
    assert rows[0] != rows[1]
    assert (
        f"| scratch, with noise | {rows[0]} |\n| published | 1 ± 2 | 3 |\n"
        f"| scratch, without noise | {rows[1]} |" in page
    )
    assert page.count("| variant | SmallFoot | SmallLeg |") == 2 and page.count("published |") == 1
    # claims are judged by the first figure of the table
    noisy = play_run(folder, "cheetah-smallfoot", 3, noise=True)["SmallFoot"].mean
    assert read_tables(page)["cheetah-smallfoot"]["scratch"].text == f"{noisy:,.0f}"
    assert "Budget: 40 environment steps per run" in page
