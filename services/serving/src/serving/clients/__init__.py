"""What serving asks of others."""
