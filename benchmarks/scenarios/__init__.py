"""What is measured: each scenario starts a server afresh, fills it, and measures some workloads."""
