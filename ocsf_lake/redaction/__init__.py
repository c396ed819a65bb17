"""What is hidden of logs before they come into the lake, see docs/redaction.md."""
