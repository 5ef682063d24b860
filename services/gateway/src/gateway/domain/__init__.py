"""What the gateway decides, without doing anything: keys, scopes, routes, limits, one API document."""
