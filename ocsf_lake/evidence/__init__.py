"""What proves that logs are complete and unaltered."""
