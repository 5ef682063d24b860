"""Images and the engine that runs them, on any machine: with a registry at hand, and without."""
