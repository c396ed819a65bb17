"""Alerts about findings: `message` is what they read, `senders` how it reaches them, `run` when it is tried again."""
