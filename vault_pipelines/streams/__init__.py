"""The Faust app and its agents, one a topic."""
