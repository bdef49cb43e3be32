"""How the controller keeps commands from the joints' limits by default; training does the same."""

POSITION_MARGIN = 0.005  # share of a joint's range kept clear at both ends
REACTION_PERIODS = 3.0  # reaction time in control periods: sampling, transport, servo lag
