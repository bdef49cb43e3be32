from setuptools import find_packages, setup

setup(
    name="polyreach_nodes",
    version="0.2.0",
    packages=find_packages(exclude=["tests"]),
    package_data={"polyreach_nodes": ["py.typed", "ros/loopback.xml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/polyreach_nodes"]),
        ("share/polyreach_nodes", ["package.xml"]),
    ],
    python_requires=">=3.11",
    # rclpy and the message packages come from the sourced ROS, or from the ros-jazzy wheels
    install_requires=[
        "matplotlib",
        "mcap",
        "mujoco>=3.3,<3.4",
        "numpy",
        "onnxruntime",
        "polyreach_description",
        "pyyaml",
        "rich",
    ],
    extras_require={"view": ["viser>=1.1,<1.2"]},
    entry_points={
        "console_scripts": [
            "controller_node = polyreach_nodes.controller_node:main",
            "sim_node = polyreach_nodes.sim_node:main",
            "command_watchdog_node = polyreach_nodes.command_watchdog_node:main",
            "reach_node = polyreach_nodes.reach_node:main",
            "goal_node = polyreach_nodes.goal_node:main",
            "demo_node = polyreach_nodes.demo_node:main",
            "view_node = polyreach_nodes.view_node:main",
        ]
    },
    zip_safe=False,
    description="ROS 2 nodes of polyreach: controller, command watchdog, simulator, action server, "
    "web page, goal client and demo",
    license="Apache-2.0",
)
