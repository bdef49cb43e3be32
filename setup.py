from glob import glob

from setuptools import find_packages, setup

setup(
    name="polyreach",
    version="0.2.0",
    package_dir={"": "training"},
    packages=find_packages("training"),
    package_data={"polyreach": ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/polyreach"]),
        ("share/polyreach", ["package.xml"]),
        ("share/polyreach/launch", glob("launch/*.launch.py")),
        ("share/polyreach/config", glob("config/*.yaml")),
        ("share/polyreach/config/rviz", glob("config/rviz/*.rviz")),
        ("share/polyreach/config/layouts", glob("config/layouts/*")),
        ("share/polyreach/config/ros2_control", glob("config/ros2_control/*.yaml")),
        ("share/polyreach/config/sros2", glob("config/sros2/*.xml")),
        ("share/polyreach/models", glob("models/*.onnx") + glob("models/*.md")),
    ],
    python_requires=">=3.11",
    install_requires=[
        "docstring_parser",
        "gymnasium>=1.1",
        "matplotlib",
        "mujoco>=3.3,<3.4",
        "numpy",
        "onnx",
        "onnxruntime",
        "onnxscript",
        "polyreach_description",
        "pyyaml",
        "rich",
        "tensorboard",
        "torch>=2.5",
        "tyro",
    ],
    extras_require={
        "metaworld": ["metaworld==3.1.1", "packaging"],
        "ray": ["ray>=2.60,<3"],
        # without this extra, colcon test runs unittest, which finds no test
        "test": ["pytest"],
    },
    entry_points={"console_scripts": ["polyreach = polyreach.cli:main"]},
    zip_safe=False,
    description="Learned multi-task policies for branched robots",
    license="Apache-2.0",
    license_files=["LICENSE"],
)
