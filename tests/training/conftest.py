"""One thread for each test process: the networks are small, and several test processes share the
machine.
"""

import torch

torch.set_num_threads(1)
torch.set_flush_denormal(True)
