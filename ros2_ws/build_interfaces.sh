#!/usr/bin/env bash
# Builds polyreach_interfaces and installs it into a virtual environment with the ROS 2 wheels:
#   ros2_ws/build_interfaces.sh VENV [STAMP]
# Does nothing with a ROS 2 installation, where colcon builds the package like every other one.
# Does nothing without a compiler, since only reach_node needs the package.
set -euo pipefail
venv=$(cd "$1" && pwd)
stamp=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
python=$venv/bin/python

skip() {
    echo "polyreach_interfaces is not built (only reach_node needs it): $1" >&2
    exit 0
}

test -d "$venv/share/rclpy" || skip "a ROS 2 is sourced; 'colcon build' in ros2_ws builds it"
command -v c++ > /dev/null || skip "no C++ compiler (apt-get install g++)"
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
test -e "$include/Python.h" || skip "$include has no Python.h (apt-get install python3-dev)"

echo "building polyreach_interfaces (half a minute the first time)"
"$python" -m pip install -q --disable-pip-version-check \
    -r "$here/../requirements-interfaces.txt" -r "$here/../requirements-ros.txt"

# the message packages in the wheels contain paths of the machine that built them
numpy=$("$python" -c 'import numpy; print(numpy.get_include())')
{ grep -rlZ --include='*.cmake' /opt/python/ "$venv/share" || true; } | xargs -0 -r sed -i -E \
    -e "s#/opt/python/[^/;\"]*/include/python3\.[0-9]+#$include#g" \
    -e "s#/opt/python/[^;\"]*/numpy/_?core/include#$numpy#g"

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
export PATH=$venv/bin:$PATH AMENT_PREFIX_PATH=$venv CMAKE_PREFIX_PATH=$venv VIRTUAL_ENV=$venv
{
    cmake -S "$here/src/polyreach_interfaces" -B "$build" \
        -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$venv" -DBUILD_TESTING=OFF &&
        cmake --build "$build" --parallel 2 &&
        cmake --install "$build"
} > "$build/log" 2>&1 || { cat "$build/log" >&2; exit 1; }
"$python" -c 'from polyreach_interfaces.action import ReachGoals; ReachGoals.Goal()'
test -z "$stamp" || touch "$stamp"
