from setuptools import find_packages, setup

setup(
    name="polyreach_description",
    version="0.2.0",
    packages=find_packages(exclude=["tests"]),
    package_data={"polyreach_description": ["robots/*/*", "py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/polyreach_description"]),
        ("share/polyreach_description", ["package.xml"]),
    ],
    python_requires=">=3.11",
    install_requires=["mujoco>=3.3,<3.4", "numpy", "onnx", "onnxruntime", "pyyaml"],
    zip_safe=False,
    description="Robots of polyreach: MJCF models with robot.yaml, and their loader",
    license="Apache-2.0",
)
