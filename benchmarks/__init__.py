"""Speed of polyreach as ratios against peers, each pair measured in one run."""
