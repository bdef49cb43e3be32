"""Where runs are trained: processes of this machine, tasks of a Ray cluster, a Slurm array."""
