"""A robot of two balls on one rail, for tests of distances by hand arithmetic."""

CARTS = """
<mujoco>
  <compiler angle="radian"/>
  <worldbody>
    <body name="base"/>
    <body name="left_cart" pos="0 0 0">
      <joint name="left" type="slide" axis="1 0 0" range="-2 2"/>
      <geom name="left_ball" type="sphere" size="0.05"/>
      <geom name="left_shell" type="sphere" size="0.04"/>
      <site name="left_tip" pos="0.1 0 0"/>
    </body>
    <body name="right_cart" pos="1 0 0">
      <joint name="right" type="slide" axis="1 0 0" range="-2 2"/>
      <joint name="side" type="slide" axis="0 1 0" range="-2 2"/>
      <geom name="right_ball" type="sphere" size="0.05"/>
      <site name="right_tip" pos="0 0 0.3"/>
    </body>
  </worldbody>
</mujoco>
"""
CARTS_YAML = """
name: carts
model: robot.xml
base_frame: base
control_rate: 50.0
effectors:
  left: {site: left_tip}
  right: {site: right_tip}
joints:
  left: {velocity: 2.0, acceleration: 5.0}
  right: {velocity: 2.0, acceleration: 5.0}
  side: {velocity: 8.0, acceleration: 50.0}
"""
