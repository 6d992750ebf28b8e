"""What every package may use: errors, files, the command line, fingerprints, time, memory, statistics, shipped names."""
