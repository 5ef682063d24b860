"""What serving decides, without touching anything."""
