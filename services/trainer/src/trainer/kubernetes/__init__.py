"""The second kind of runner: `python -m trainer kubernetes`. It pulls attempts, and has a cluster run them as Jobs."""
