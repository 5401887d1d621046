"""Event bus: claim lanes, call the registered handlers and renew the leases."""
