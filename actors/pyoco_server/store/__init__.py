"""What gateway and worker both do over the bridge: runs, dead letters, control, provisioning."""
