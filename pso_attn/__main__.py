"""`python -m pso_attn`: the command line, where its script is not on the path."""

from pso_attn.cli import main

main()
