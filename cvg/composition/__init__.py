"""What a prompt asks for: label sets, entities and relations, and how they are read from text."""
