"""How good: batched training, scoring, rungs, and what a training costs."""
