"""An Airflow DAG of the night: resume on a crash, never on a held release, gc once the night is live."""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.exceptions import AirflowFailException, AirflowSkipException
from airflow.operators.python import PythonOperator

HOME = "/srv/samespace"
SAMESPACE = [f"{HOME}/.venv/bin/samespace"]
CONFIG = ["--config", f"{HOME}/samespace.toml", "--json"]


def night(**_: object) -> None:
    """Run the night; which exit codes may be tried again is decided here."""
    import subprocess

    code = subprocess.run([*SAMESPACE, "nightly", *CONFIG], cwd=HOME, check=False).returncode
    if code == 5:
        raise AirflowSkipException("another night is running")
    if code in (2, 3, 4):
        raise AirflowFailException(f"exit code {code}: a person has to look")  # no retry
    if code:
        raise RuntimeError(f"exit code {code}")  # a retry goes on where it was


def sweep(**_: object) -> None:
    """Drop old releases."""
    import subprocess

    subprocess.run([*SAMESPACE, "gc", "--keep", "14", *CONFIG], cwd=HOME, check=True)


with DAG(
    "samespace_night",
    schedule="15 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
):
    PythonOperator(task_id="night", python_callable=night) >> PythonOperator(task_id="gc", python_callable=sweep)
