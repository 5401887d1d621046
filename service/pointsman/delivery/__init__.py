"""Delivery: send queued tracker calls, source feedback and e-mails."""
