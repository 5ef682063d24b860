"""What a pipeline, a run and a step are, and what happens next to them: pure values and rules."""
