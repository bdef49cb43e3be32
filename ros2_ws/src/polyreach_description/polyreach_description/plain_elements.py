"""Elements that are added to a model: without the defaults that the model gives its own."""

import mujoco

PLAIN = mujoco.MjSpec()
"""Its `default` makes an element plain. A model's own default would, for instance, limit the range
of the drives that are added to it, or turn a site.
"""
