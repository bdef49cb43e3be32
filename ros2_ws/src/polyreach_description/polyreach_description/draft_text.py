"""What a draft says: the lines of the robot.yaml, and the sentences on what to decide."""

from collections.abc import Iterator

from polyreach_description.draft import CONTROL_RATE, Draft, JointDraft
from polyreach_description.draft_contacts import ALWAYS, SAMPLES
from polyreach_description.draft_effectors import EffectorDraft
from polyreach_description.draft_yaml import commented, section, yaml_name
from polyreach_description.printable import printable
from polyreach_description.robot import SPEED_UP_S

AXIS_JOINTS, POSE_JOINTS = 5, 6  # that a goal of kind axis and pose needs
SHOWN = 8  # names in a sentence


def draft_text(draft: Draft, model: str) -> str:
    """The robot.yaml; model: its path, relative to the file."""
    head = [
        '# Written by `polyreach robot new`. "guess": not in the model, to be checked.',
        f"name: {yaml_name(draft.name)}",
        f"model: {yaml_name(model)}",
        f"base_frame: {yaml_name(draft.base_frame)} # frame of the goals",
        f"control_rate: {CONTROL_RATE} # [Hz], guess: that of the robot's controllers",
    ]
    if draft.fixed_base:
        head.append("fixed_base: true # the floating base stays where the model has it")
    if draft.home_keyframe:
        head.append(f"home_keyframe: {yaml_name(draft.home_keyframe)}")
    comment = f"; acceleration is a guess: full speed after {SPEED_UP_S:g} s"
    followers = [f"# {printable(text)} (in the model; not listed)" for text in draft.followers]
    return "".join(
        [
            *(f"{line}\n" for line in head),
            section(
                "effectors: # ends of the kinematic tree; `goal: position` unless another is given",
                (_effector_line(draft, effector) for effector in draft.effectors),
            ),
            section(
                f"joints: # [rad/s], [rad/s^2] or [m/s], [m/s^2]{comment}",
                iter([*_joint_lines(draft), *followers]),
            ),
            section(
                f"home: # [rad] or [m]; {draft.home_source}",
                (f"{yaml_name(name)}: {value:g}" for name, value in draft.home.items()),
            ),
            section(
                f"no_collision: # in {ALWAYS:.0%} of {SAMPLES} random configurations",
                iter([*_no_collision_lines(draft)]),
            ),
        ]
    )


def _effector_line(draft: Draft, effector: EffectorDraft) -> str:
    if effector.site:
        place = f"site: {yaml_name(effector.site)}"
    else:
        place = f"body: {yaml_name(effector.body)}"
        if any(effector.offset):
            place += f", offset: [{', '.join(map(str, effector.offset))}]"
    fingers = f"{len(effector.fingers)} finger joints are held" if effector.fingers else ""
    guess = "offset is a guess: the end of its shapes [m]" if effector.is_end_of_shapes else ""
    return commented(f"{effector.name}: {{{place}}}", fingers, guess)


def _joint_lines(draft: Draft) -> Iterator[str]:
    """The joints, with a line before those that move other effectors than the joint above."""
    last: tuple[str, ...] | None = None
    for joint in draft.joints:
        moved = draft.moves.get(joint.name, ())
        if moved and moved != last:
            alone = " alone: delete them with it" if len(moved) == 1 else ""
            yield f"# of {', '.join(moved)}{alone}"
        last = moved
        yield _joint_line(joint)


def _joint_line(joint: JointDraft) -> str:
    limits = f"{{velocity: {joint.velocity:g}, acceleration: {joint.acceleration:g}}}"
    source = f"velocity: {joint.source}" if joint.source else ""
    return commented(f"{yaml_name(joint.name)}: {limits}", source)


def _no_collision_lines(draft: Draft) -> Iterator[str]:
    for link in draft.unusable_links:
        yield commented(f"- {yaml_name(link)}", "its collision mesh cannot be used: ignored")
    for first, second, reason in draft.pairs:
        yield commented(f"- [{yaml_name(first)}, {yaml_name(second)}]", reason)
    for first, second, text in draft.often:
        yield f"# - [{yaml_name(first)}, {yaml_name(second)}] # {text}: decide"


def decisions(draft: Draft) -> Iterator[str]:
    """Sentences on what was guessed and what is left to be decided."""
    kinds = [f"{e.name} ({_goal_kinds(draft, e)})" for e in draft.effectors]
    yield (
        f"effectors: {', '.join(kinds)}: delete those that get no goals, such as a head or feet, "
        "or name the others after --effectors"
    )
    hands = [e.name for e in draft.effectors if e.fingers]
    if hands:
        yield f"hands: the fingers of {_names(hands)} are held; for others, name a fingertip"
    guessed = [joint.name for joint in draft.joints if joint.source]
    if guessed:
        yield f"velocity limits: the model has none that can be used of {_names(guessed)}: guessed"
    yield f"acceleration limits: all are guesses, full speed after {SPEED_UP_S:g} s"
    yield "velocity limits: lower those of the model to what is safe near people"
    if draft.unlimited:
        yield (
            f"joints without limits are held: {_names(draft.unlimited)}; to control one, give it a "
            "range in the model"
        )
    if draft.unused:
        yield f"links that hardly move are no effectors: {_names(draft.unused)}"
    if draft.unusable_links:
        yield f"collision meshes to convert, ignored until then: {_names(draft.unusable_links)}"
    if draft.pairs:
        pairs = [f"[{first}, {second}]" for first, second, _ in draft.pairs]
        yield f"collision: not checked between {_names(pairs)}; the file says why"
    if draft.often:
        pairs = [f"[{first}, {second}]" for first, second, _ in draft.often]
        yield f"collision: {_names(pairs)} touch or are near often; are they to be checked?"
    if draft.home_source:
        yield f"home: {draft.home_source}"


def _goal_kinds(draft: Draft, effector: EffectorDraft) -> str:
    """Which goals an effector can have."""
    count = sum(effector.name in moved for moved in draft.moves.values())
    kinds = ["position"]
    kinds += ["axis"] if count >= AXIS_JOINTS else []
    kinds += ["pose"] if count >= POSE_JOINTS else []
    return f"{count} joints: {' or '.join(kinds)}" if count else "position"


def _names(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
