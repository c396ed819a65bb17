"""Rules that come with this program, each a Sigma file of this folder."""

from pathlib import Path

NAME = "pack"
"""What stands for them where a folder of rules is wanted."""
FOLDER = Path(__file__).parent
