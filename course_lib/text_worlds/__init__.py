"""The texts that the course trains on and tests with: one whose truth is known, one that is real English, samples."""
