"""What guidance, capture and inversion cost, in time, memory and bytes; ``make bench``."""
