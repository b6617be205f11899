"""What is known of vLLM and its GPUs: metric names by version, arguments, log signatures. No I/O."""
