"""Distances between the bodies of a robot that its controller keeps by default."""

SLOW_DISTANCE = 0.025  # [m] below which an approach slows
STOP_DISTANCE = 0.01  # [m] at which it stops
