"""One file = one `/vllm` subcommand; what only reads runs in a terminal too. The word is the file name."""
