"""Tune attention with particle swarm optimisation; the whole swarm trains as one batched job.

Data flows one way:

    space ──> swarm ──> evaluate ──> store ──> report
    what      where     how good     what      what it
    may vary  to look   it is        happened  means
"""

__version__ = "0.1.0"
