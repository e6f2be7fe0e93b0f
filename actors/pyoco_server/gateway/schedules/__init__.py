"""Schedules: what is known of them, how they change, and what their ticks do."""
