"""The commands for operators, and what they share with the commands of `realtime`."""
