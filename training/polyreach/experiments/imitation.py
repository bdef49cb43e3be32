"""Imitation of Meta-World's scripted policies by distillation with DAgger (Ross et al. 2011), which
uses no reward and is no result of reinforcement learning, and PPO that goes on from the student.
"""

from polyreach.envs.metaworld.metaworld import MetaWorldConfig
from polyreach.experiments.experiment import Experiment, Override, Variant, override
from polyreach.methods.distillation import DistillationConfig
from polyreach.methods.ppo_fine_tuning import PPOFineTuningConfig

_DAGGER = override(
    DistillationConfig,
    teachers=("scripted",),
    # against a fixed deviation: the squared error of the actions
    direction="student_teacher",
    match="action",
    order="together",
    hidden=(256, 256, 256),
    optimizer="adam",
    hidden_gain=0.1,
    t_max=10,
    lr=1e-3,
    final_lr=0.05,
    mixing=0.3,
)


def _imitation(
    task_set: str, tasks: int, dagger: Override, steps: int, published: str, ppo_steps: int = 0
) -> Experiment:
    """`steps` of each task with 5 environments, all of which are kept, and one evaluation, at the
    end; then `ppo_steps` of PPO.
    """
    settings = (override(DistillationConfig, memory=steps), _DAGGER, dagger)
    student = Variant("distillation with DAgger", "distillation", settings)
    goes_on = Variant(
        f"PPO from that student, {ppo_steps:,} steps",
        "ppo-fine-tuning",
        (override(PPOFineTuningConfig, hidden=(256, 256, 256)),),
        after=student,
        steps=ppo_steps,
    )
    return Experiment(
        name=f"imitation-{task_set}",
        title=f"Imitation of the scripted policies of Meta-World's {task_set.upper()}",
        paper="Arora et al. 2018 and Ross et al. 2011",
        envs=(task_set,),
        variants=(student, goes_on) if ppo_steps else (student,),
        preset="paper",
        # a success within 200 steps is one within the usual 500, too
        overrides=(override(MetaWorldConfig, goals="shuffled", horizon=200),),
        num_envs=5 * tasks,
        eval_every=steps * tasks,
        steps=steps * tasks,
        seeds=3,
        measure="success",
        published=published,
    )


_OTHER_KIND = (
    "by reinforcement learning, which has rewards and no teachers, and so not the same kind"
)
IMITATION_MT10 = _imitation(
    "mt10",
    10,
    override(DistillationConfig, updates=7, batch_size=64, last_updates=30_000),
    50_000,
    f"{_OTHER_KIND}: ARS (Cho et al. 2025) 97 to 99 % after 20,000,000 steps; nothing of "
    "imitation. The scripted teachers themselves: 97.4 % of the same goals",
    ppo_steps=600_000,
)
IMITATION_MT50 = _imitation(
    "mt50",
    50,
    override(DistillationConfig, updates=10, batch_size=32, last_updates=20_000),
    32_000,
    f"{_OTHER_KIND}: ARS (Cho et al. 2025) 78 to 83 % after 100,000,000 steps; nothing of "
    "imitation. The scripted teachers themselves: 98.0 % of the same goals",
)
