"""A swarm in an Optuna study of your own."""

import optuna

import pso_attn


def loss(trial: optuna.Trial) -> float:
    """Stand in for a training."""
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    heads = trial.suggest_int("heads", 1, 16, log=True)
    return (lr - 0.003) ** 2 * 1e4 + abs(heads - 4)


study = optuna.create_study(sampler=pso_attn.PSOSampler(n_particles=8, seed=1))
study.optimize(loss, n_trials=40)
print("best", study.best_value, study.best_params)
