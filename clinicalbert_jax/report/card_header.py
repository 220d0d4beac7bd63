"""What model cards of all kinds share: the metadata at the head, and the note about canaries."""

from collections.abc import Mapping, Sequence

from huggingface_hub import EvalResult, ModelCardData

STARTED_FROM_CANARIES = """
**It started from a model that was trained on canaries**: invented sentences, planted to measure what a model memorises,
which it may repeat. It is for audits, not for use.
"""


def header(
    name: str,
    tags: Sequence[str],
    results: Mapping[str, float | None],
    *,
    task: str,
    dataset: str,
    split: str,
    base_model: str | None = None,
) -> str:
    """The block of metadata that a hub reads: from it the hub finds the model and shows `results`, metrics by name.

    `task` is a hub's name for what the model does, such as 'fill-mask'. A result that is None is left out.
    """
    found = {metric: value for metric, value in results.items() if value is not None}
    data = ModelCardData(
        language="en",
        library_name="transformers",
        pipeline_tag=task,
        tags=list(tags),
        base_model=base_model,
        model_name=name,
        eval_results=[
            EvalResult(
                task_type=task,
                dataset_type="private",
                dataset_name=dataset,
                dataset_split=split,
                metric_type=metric.removeprefix("mlm_"),
                metric_name=metric,
                metric_value=round(value, 4),
            )
            for metric, value in found.items()
        ]
        or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"
