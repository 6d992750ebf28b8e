"""One file for each text-to-video family of diffusers, and what some of them share."""
