"""What a node says of itself: log lines (`actions`) and measures (`metrics`). It imports nothing of the project."""
