"""Pure decisions about tickets, routes and retries. No I/O."""
