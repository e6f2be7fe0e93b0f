"""Scenarios: what happens to a system over time, played against real processes and judged by its history."""
