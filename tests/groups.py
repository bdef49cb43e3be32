"""Groups of tests that must not run in parallel: one worker runs a group sequentially."""

from pathlib import PurePosixPath

# tests/nodes: tests of functions, independent of other tests
WITHOUT_PROCESSES = {
    "test_bad_policies.py",
    "test_clearance.py",
    "test_command_relay.py",
    "test_contract.py",
    "test_control.py",
    "test_control_period.py",
    "test_demo_board.py",
    "test_goal_motion.py",
    "test_goal_twists.py",
    "test_joint_jog.py",
    "test_goal_frames.py",
    "test_holds.py",
    "test_joint_reference.py",
    "test_limits.py",
    "test_nearest_obstacles.py",
    "test_markers.py",
    "test_obstacles.py",
    "test_obstacles_guarantee.py",
    "test_moving_goals_benchmark.py",
    "test_outages.py",
    "test_policy.py",
    "test_position_command.py",
    "test_pose_goals.py",
    "test_pose_policy.py",
    "test_progress.py",
    "test_proximity.py",
    "test_proximity_guarantee.py",
    "test_reach_queue.py",
    "test_reach_task.py",
    "test_reports.py",
    "test_transforms.py",
    "test_view_obstacles.py",
    "test_view_parts.py",
    "test_view_program.py",
    "test_watchdog.py",
}
# tests of whole programs, which check no delay below a second
PROGRAMS = {
    "test_closed_output_of_nodes.py",
    "test_commands.py",
    "test_demo.py",
    "test_documented_commands.py",
    "test_frame_processes.py",
    "test_goal_node.py",
    "test_middleware.py",
    "test_obstacles_benchmark.py",
    "test_pose_processes.py",
    "test_sros2_policy.py",
    "test_view.py",
    "test_view_obstacle_processes.py",
    "test_wheels.py",
    "test_without_interfaces.py",
    "test_your_robot.py",
}


def group_of(nodeid: str) -> str:
    """Group of a test; '' if it may run in parallel to any other.

    nodes: tests that measure the timing of processes. programs: tests that start several processes.
    launch: tests that share a workspace, which takes half a minute to build.
    """
    path = PurePosixPath(nodeid.split("::")[0])
    if path.parent.name == "launch":
        return "launch"
    if path.parent.name in ("docs", "nodes", "packages") and path.name in PROGRAMS:
        return "programs"
    return "nodes" if path.parent.name == "nodes" and path.name not in WITHOUT_PROCESSES else ""
