"""How the shipped small models were made: one script each, from nothing."""
