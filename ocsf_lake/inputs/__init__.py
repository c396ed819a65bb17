"""What there is to read: which source an object belongs to, where AWS delivers it, what was looked at."""
