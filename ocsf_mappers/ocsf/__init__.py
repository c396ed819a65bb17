"""OCSF itself: its classes, the tables made of them, and what makes an event valid."""
