"""Operator use cases shared by the web API, the console and the command line."""
