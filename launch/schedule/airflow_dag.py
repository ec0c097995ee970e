"""Airflow: one task for each stage of a release, once a week, and a refresh every hour.

Copy it into the folder of DAGs and change the paths. Stages that are done are left out when a task
runs again, and a stage that was stopped (exit status 75) continues, so that retries are safe.
"""

import itertools
from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.bash import BashOperator

GEMB = "/srv/search/.venv/bin/gemb"
STORE, CORPUS = "/srv/search/store", "/srv/search/corpus"
STAGES = ("train", "gate", "embed", "index", "verify", "load", "publish")
RELEASE = (
    f"{GEMB} release {STORE} --gin_file=/srv/search/experiment.gin --corpus={CORPUS} "
    f"--tasks={CORPUS} --workdir=/srv/search/release-{{{{ ds }}}}"
)
RETRIES = {"retries": 3, "retry_delay": timedelta(minutes=5)}

with DAG(
    "gemb_release",
    schedule="30 2 * * 0",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args=RETRIES,
) as release:
    tasks = [
        BashOperator(task_id=stage, bash_command=f"{RELEASE} --stages={stage}") for stage in STAGES
    ]
    for before, after in itertools.pairwise(tasks):
        before >> after

with DAG(
    "gemb_refresh",
    schedule="7 * * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args=RETRIES,
) as refresh:
    BashOperator(task_id="refresh", bash_command=f"{GEMB} refresh {STORE} --corpus={CORPUS}")
