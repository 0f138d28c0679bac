"""What the commands of ``latentcause`` do, one module a command; ``latentcause.cli`` reads their options."""
