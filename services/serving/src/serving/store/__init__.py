"""What serving keeps in its database."""
