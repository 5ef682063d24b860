"""The runner: `python -m trainer runner`, one on each host. It pulls attempts and looks after their processes."""
