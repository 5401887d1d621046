"""HTTP towards us. Handlers hold no rules: parse, ask, store, answer."""
