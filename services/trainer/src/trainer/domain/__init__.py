"""What a job is and what may happen to it: pure values and rules, no input or output."""
