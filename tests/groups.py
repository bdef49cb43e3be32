"""Which tests must not run side by side: one worker runs those of a group, one after the other."""

from pathlib import PurePosixPath

# of tests/nodes: tests of functions, which no other test disturbs
WITHOUT_PROCESSES = {
    "test_bad_policies.py",
    "test_clearance.py",
    "test_command_relay.py",
    "test_contract.py",
    "test_control.py",
    "test_control_period.py",
    "test_demo_board.py",
    "test_limits.py",
    "test_outages.py",
    "test_policy.py",
    "test_progress.py",
    "test_proximity.py",
    "test_proximity_guarantee.py",
    "test_reach_task.py",
    "test_reports.py",
    "test_view_parts.py",
    "test_watchdog.py",
}
# of tests/nodes: tests of programs from start to end, which judge no delay below a second
PROGRAMS = {
    "test_closed_output_of_nodes.py",
    "test_commands.py",
    "test_demo.py",
    "test_goal_node.py",
    "test_middleware.py",
    "test_sros2_policy.py",
    "test_view.py",
    "test_without_interfaces.py",
    "test_your_robot.py",
}


def group_of(nodeid: str) -> str:
    """Group of a test, '' if it may run beside any other.

    nodes: they measure processes, and would disturb each other's timing. programs: they start
    several processes each. launch: they share a workspace that takes half a minute to build.
    """
    path = PurePosixPath(nodeid.split("::")[0])
    if path.parent.name == "launch":
        return "launch"
    if path.parent.name != "nodes" or path.name in WITHOUT_PROCESSES:
        return ""
    return "programs" if path.name in PROGRAMS else "nodes"
