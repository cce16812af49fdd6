"""Models whose weights run in this process: loading, exact log-likelihoods, generation."""
