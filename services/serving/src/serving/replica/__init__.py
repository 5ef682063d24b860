"""What one process that answers predictions does."""
