"""What a request holds: its body, its fields and the JSON in them, checked before anybody acts on it."""
