"""What the gateway keeps: projects, their members, and the digests of keys."""
