"""The child that runs what may not run in serving's own process."""
