"""What keeps a lake right: check, repair, replay, rebuild, health."""
