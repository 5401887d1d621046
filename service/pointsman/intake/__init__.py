"""Accept reports: parse them, decide about their tickets and store both in one transaction."""
