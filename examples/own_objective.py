"""An objective of one's own: a perceptron of scikit-learn, which leaves early where it lags."""

from typing import Any

from sklearn.datasets import load_breast_cancer
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

import pso_attn

SPACE: dict[str, Any] = {
    "search": {
        "units": {"low": 4, "high": 64, "log": True},
        "lr": {"low": 1e-4, "high": 1e-1, "log": True},
        "alpha": {"low": 1e-6, "high": 1.0, "log": True},
        "activation": ["relu", "tanh"],
    },
    "budget": {"particles": 8, "generations": 6, "steps": 20},
}


def objective(settings: Any, trial: Any) -> dict[str, float] | None:
    """Train for `trial.steps` epochs, and score on the split that the trial names."""
    inputs, labels = load_breast_cancer(return_X_y=True)
    inputs, test_inputs, labels, test_labels = train_test_split(
        inputs, labels, test_size=0.2, random_state=0, stratify=labels
    )
    inputs, val_inputs, labels, val_labels = train_test_split(
        inputs, labels, test_size=0.25, random_state=0, stratify=labels
    )
    scaler = StandardScaler().fit(inputs)
    model = MLPClassifier(
        hidden_layer_sizes=(settings["units"],),
        activation=settings["activation"],
        alpha=settings["alpha"],
        learning_rate_init=settings["lr"],
        random_state=trial.seed,
    )
    for epoch in range(1, trial.steps + 1):
        model.partial_fit(scaler.transform(inputs), labels, classes=(0, 1))
        answers = model.predict_proba(scaler.transform(val_inputs))
        trial.report(epoch, log_loss(val_labels, answers))
        if trial.should_prune():
            return None
    scored = {"validation": (val_inputs, val_labels), "test": (test_inputs, test_labels)}
    rows, right = scored[trial.split]
    answers = model.predict_proba(scaler.transform(rows))
    return {
        "loss": log_loss(right, answers),
        "accuracy": float((answers.argmax(1) == right).mean()),
    }


if __name__ == "__main__":
    found = pso_attn.tune(SPACE, objective)
    print(found.frame["state"].value_counts().to_dict())
    print("best loss", found.best.value, "of", found.best.settings)
