"""The benchmark of shardstore beside what a user would pick instead.

`python -m bench list` names the workloads and the stores; `python -m bench run` measures.
Reading order: plan.py (what a run is), runner.py (how rounds alternate), workloads/touch.py (the
simplest workload), peers/base.py (what every store is asked to do), goals.py (what counts as reached).
"""
