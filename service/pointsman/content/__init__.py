"""Pure text: sanitize, render and redact what leaves Pointsman."""
