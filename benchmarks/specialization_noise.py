"""How much of the disagreement by which specialisation chooses weights is noise of its estimation.

    python -m benchmarks.specialization_noise [ENV ...] [--steps N] [--rollouts K] [--seeds S]
        [--out FOLDER]

A joint policy is trained for N steps (the paper's jt) and held; the policy gradients g of its T
tasks are then measured on K rollouts of the size of an iteration. Two estimates of a weight's
disagreement from n rollouts are compared: the mean over rollouts of var_i(g_i), which is Algorithm
1 of Yu et al. 2017 (n = 10), and var_i of the gradients' mean over rollouts. Writes
specialization-noise.md and .png.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
from torch import Tensor

from polyreach.envs.registry import find_env_spec
from polyreach.methods import get_method
from polyreach.methods.ppo import PPO, PPOConfig
from polyreach.methods.specialization import largest
from polyreach.plotting import file_pyplot

NAME = "specialization-noise"
COUNTS = (1, 2, 5, 10, 20, 40)
PAPERS = 10  # iterations over which the paper averages
SHARE = 0.25  # of the weights
REPEATS = 20  # pairs of disjoint sets of rollouts
ESTIMATES = {
    "disagreement": "mean of the disagreements (the paper)",
    "gradients": "disagreement of the mean",
}
INTRODUCTION = """\
# How much of specialisation's choice is noise

![noise and agreement](specialization-noise.png)

Specialisation ([Yu et al. 2017](specialization.md)) splits the weights whose policy gradients vary
most between the tasks. A gradient from one rollout is noisy, and noise varies between tasks, too.
Here joint policies ({policies} seeds) are held after {steps:,} steps, and the gradients of each are
measured on {rollouts} rollouts of the size of an iteration. Figures are means over seeds (range).

- **noise**: share of the disagreement, summed over all weights, that is noise of the gradients. The
  mean of many disagreements (Algorithm 1, 10 rollouts) keeps all of it; the disagreement of the
  gradients' mean keeps one n-th.
- **agreement**: share of the chosen {share:.0%} of the weights that an estimate from other rollouts
  chooses, too; chance gives {share:.0%}.
- **as by noise**: share of the chosen weights that a choice by the variance of the gradients
  between rollouts, which knows nothing of the tasks, has too.

`--method-config.average gradients --method-config.average-iterations N` selects the second estimate
in training, where the policy changes between the iterations.

Made by `python -m benchmarks.specialization_noise --steps {steps} --rollouts
{rollouts} --seeds {policies}`.

| environment | estimate | rollouts | noise | agreement | as by noise |
| --- | --- | ---: | ---: | ---: | ---: |
"""


class Row(NamedTuple):
    """One estimate from n rollouts on an environment."""

    env: str
    estimate: str
    rollouts: int
    noise: tuple[float, ...]
    """Expected share of the sum over weights that is noise, for each policy."""
    agreement: float
    """Share of the chosen weights that a second, independent estimate chooses too."""
    by_noise: float
    """Share of the chosen weights that a choice by the noise of their gradients alone has too."""


def gradients(env_name: str, steps: int, rollouts: int, seed: int) -> Tensor:
    """Policy gradients of the tasks on rollouts of a held joint policy, (K, T, P)."""
    spec = find_env_spec(env_name, True)
    config, env_config = get_method("ppo").preset("paper", spec)
    assert isinstance(config, PPOConfig)
    env = spec.make(env_config, num_envs=24, device="cpu", threads=1, seed=seed)
    learner = PPO(config, env, 3 * steps, seed)
    while learner.env_steps < steps:
        learner.step()
    return torch.stack(
        [learner.task_gradients(learner.batch_of(learner.collect()))[0] for _ in range(rollouts)]
    )


def estimate(g: Tensor, kind: str) -> Tensor:
    """The disagreement of every weight (P,), from gradients of n rollouts (n, T, P)."""
    if kind == "gradients":
        return g.mean(dim=0).var(dim=0, correction=0)
    return g.var(dim=1, correction=0).mean(dim=0)


def noise_share(g: Tensor, kind: str, rollouts: int) -> float:
    """Expected share of the sum of an estimate from n rollouts that is noise, by gradients
    (K, T, P).

    With s_i^2 the variance of g_i[j] between rollouts, noise adds (1 - 1/T) mean_i s_i^2 to the
    variance between tasks that one rollout shows, and an n-th of that to that of a mean over n.
    """
    tasks = g.shape[1]
    added = (1 - 1 / tasks) * g.var(dim=0).sum(dim=-1).mean()  # K - 1 degrees of freedom
    single = estimate(g, "disagreement").sum()
    if kind == "disagreement":
        return float(added / single)
    return float(added / rollouts / (single - added + added / rollouts))


def overlap(chosen: Tensor, other: Tensor) -> float:
    """Share of the weights of one mask (P,) that are in the other."""
    return float((chosen & other).sum() / chosen.sum())


def rows_of(env: str, policies: Sequence[Tensor]) -> Iterator[Row]:
    """All rows of an environment, from the gradients (K, T, P) of each of several policies."""
    generator = torch.Generator().manual_seed(0)
    choices = [largest(g.var(dim=0).mean(dim=0), SHARE) for g in policies]
    for kind in ESTIMATES:
        for count in COUNTS:
            if 2 * count > len(policies[0]):
                continue
            agreements, by_noise = [], []
            for g, noisiest in zip(policies, choices, strict=True):
                for _ in range(REPEATS):
                    drawn = torch.randperm(len(g), generator=generator)
                    pair = [
                        largest(estimate(g[part], kind), SHARE)
                        for part in (drawn[:count], drawn[count : 2 * count])
                    ]
                    agreements.append(overlap(*pair))
                    by_noise += [overlap(chosen, noisiest) for chosen in pair]
            noise = tuple(noise_share(g, kind, count) for g in policies)
            yield Row(env, kind, count, noise, mean(agreements), mean(by_noise))


def page(rows: list[Row], steps: int, rollouts: int) -> str:
    """The page as Markdown."""
    text = INTRODUCTION.format(
        steps=steps, rollouts=rollouts, share=SHARE, policies=len(rows[0].noise)
    )
    for row in rows:
        noise = f"{mean(row.noise):.0%} ({min(row.noise):.0%} to {max(row.noise):.0%})"
        text += f"| {row.env} | {ESTIMATES[row.estimate]} | {row.rollouts} | {noise} | "
        text += f"{row.agreement:.0%} | {row.by_noise:.0%} |\n"
    return text


def draw(rows: list[Row], path: Path) -> None:
    """Noise and agreement against the number of rollouts."""
    pyplot = file_pyplot()
    envs = list(dict.fromkeys(row.env for row in rows))
    figure, axes = pyplot.subplots(1, len(envs), figsize=(4.5 * len(envs), 3.8), squeeze=False)
    for axis, env in zip(axes[0], envs, strict=True):
        for color, (kind, label) in zip(("C0", "C1"), ESTIMATES.items(), strict=True):
            mine = [row for row in rows if (row.env, row.estimate) == (env, kind)]
            counts = [row.rollouts for row in mine]
            axis.plot(
                counts, [mean(row.noise) for row in mine], f"{color}o-", label=f"noise, {label}"
            )
            axis.plot(
                counts, [row.agreement for row in mine], f"{color}s:", label=f"agreement, {label}"
            )
        axis.axvline(PAPERS, color="0.8", zorder=0)
        axis.set(title=env, xlabel="rollouts", xscale="log", ylim=(0, 1.04))
        axis.set_xticks(COUNTS, labels=[str(count) for count in COUNTS])
        axis.minorticks_off()
    axes[0, 0].set_ylabel("share")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=2, fontsize=8)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main(words: list[str]) -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.specialization_noise")
    parser.add_argument("envs", nargs="*", default=["hoppers3", "biped2"], metavar="ENV")
    parser.add_argument("--steps", type=int, default=400_000)
    parser.add_argument("--rollouts", type=int, default=80)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    rows: list[Row] = []
    for env in options.envs:
        seeds = range(options.seeds)
        rows += rows_of(env, [gradients(env, options.steps, options.rollouts, s) for s in seeds])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{NAME}.md").write_text(page(rows, options.steps, options.rollouts))
    draw(rows, options.out / f"{NAME}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
