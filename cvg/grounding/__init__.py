"""What is read off a generator about where a prompt's entities are."""
