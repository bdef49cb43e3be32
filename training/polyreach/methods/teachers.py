"""The teachers of a student: trained or scripted policies, adapted to its environment."""

from collections.abc import Sequence
from typing import Literal

from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError
from polyreach.methods.trained_policy import AdaptedPolicy, PolicyReader

Match = Literal["distribution", "action"]
"""What a student matches: the distribution of the teacher's actions, or its action without noise.
"""


def read_teachers(
    paths: Sequence[str], match: Match, env: TaskEnv, read: PolicyReader
) -> list[AdaptedPolicy]:
    """The teachers of a student: one for all tasks, or one for each.

    Raises UserError if they do not fit the tasks or each other.
    """
    if len(paths) not in (1, env.tasks):
        raise UserError(
            f"teachers are {len(paths)}, but must be one for all tasks, or one for each "
            f"of {', '.join(env.task_names)}, in turn (--method-config.teachers)"
        )
    by_path = {path: read(path).adapt(env) for path in dict.fromkeys(paths)}
    teachers = [by_path[path] for path in paths]
    each = teachers if len(teachers) > 1 else teachers * env.tasks
    for task, (teacher, name) in enumerate(zip(each, env.task_names, strict=True)):
        if teacher.rows[task] < 0:
            raise UserError(f"teacher '{teacher.path}' was not trained on the task '{name}'")
    if match == "action":
        return teachers
    for teacher in teachers:
        if teacher.distribution is None:
            raise UserError(
                f"teacher '{teacher.path}' has no distribution of the student's actions to match: "
                "take --method-config.match action"
            )
        if teacher.squashes != teachers[0].squashes:
            raise UserError(
                f"of the teachers '{teachers[0].path}' and '{teacher.path}' one squashes its "
                "actions by tanh and one does not: take --method-config.match action"
            )
    return teachers
