"""Build a ticket's history from its rows and render it: the one answer to "why is there (no) issue?"."""
