"""Day-2 operations: backup and restore, the doctor, migrations; what the commands only print."""
