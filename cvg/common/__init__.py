"""What every package may use: errors, files, the command line, fingerprints, time, statistics, shipped names."""
