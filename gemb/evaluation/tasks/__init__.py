"""Evaluation tasks: one file for each type, their registry, and reading them from folders."""

from gemb.evaluation.tasks.registry import TASK_TYPES, EvaluationTask, read_tasks
from gemb.evaluation.tasks.samples import sample_documents, sample_texts
from gemb.evaluation.tasks.task_type import Measured, TaskType

__all__ = [
    "TASK_TYPES",
    "EvaluationTask",
    "Measured",
    "TaskType",
    "read_tasks",
    "sample_documents",
    "sample_texts",
]
