"""Schedules as they are stored, and the rules by which they are due."""
