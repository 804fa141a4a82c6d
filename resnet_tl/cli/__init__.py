"""The commands: each file parses, calls and prints; no logic lives here."""
