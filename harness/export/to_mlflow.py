"""MLflow: one run for the whole, and within it one for each variant, with its metrics and their intervals' ends.

Without ``--out`` the store is SQLite in the run folder. ``MLFLOW_TRACKING_URI`` is not read, so that nothing is sent to
a server that was not named.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.errors import HarnessError, first_line
from harness.export.destinations import Wanted
from harness.export.figures import ExportedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "medical-dialogue-harness"
ARTIFACTS = ("summary.json", "gate.json", "gate.md")  # numbers and sentences, no dialogues
_METRICS, _PARAMS, _CHARACTERS = 1000, 100, 500  # MLflow's limits for one request, and for a parameter's text


def export(run: ExportedRun, wanted: Wanted) -> list[str]:
    """Log the run; raise HarnessError if the store refuses it or cannot be reached."""
    # A server that does not answer is asked for minutes otherwise.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # it announces every table that it creates
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    location = None
    if wanted.out is not None and "://" in wanted.out:
        uri = wanted.out
    else:
        place = wanted.place(run, "mlflow").resolve()
        place.mkdir(parents=True, exist_ok=True)
        uri, location = f"sqlite:///{place / 'mlflow.db'}", (place / "artifacts").as_uri()
    try:
        count = _log(MlflowClient(tracking_uri=uri), run, location, with_report=wanted.with_report)
    except MlflowException as error:
        raise HarnessError(f"MLflow at {uri} refused the run: {first_line(error)}.") from error
    return [f"{uri}: experiment {EXPERIMENT}, run {run.name}, {len(run.variants)} variants, {count} values"]


def _log(client: MlflowClient, run: ExportedRun, location: str | None, *, with_report: bool) -> int:
    """Log everything and return how many values that were; a failure is logged as the state of the whole."""
    from mlflow.entities import Metric, Param
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    known = client.get_experiment_by_name(EXPERIMENT)
    experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT, artifact_location=location)
    whole = client.create_run(experiment, run_name=run.name, tags=run.facts).info.run_id
    now, count, state = int(time.time() * 1000), 0, "FAILED"

    def log(id: str, settings: Mapping[str, str], values: Mapping[str, float]) -> None:
        params = [Param(key, text[:_CHARACTERS]) for key, text in settings.items()]
        metrics = [Metric(key, value, now, 0) for key, value in values.items()]
        for start in range(0, len(params), _PARAMS):
            client.log_batch(id, params=params[start : start + _PARAMS])
        for start in range(0, len(metrics), _METRICS):
            client.log_batch(id, metrics=metrics[start : start + _METRICS])

    try:
        log(whole, run.settings(), {})
        for variant in run.variants:
            tags = {**run.facts, MLFLOW_PARENT_RUN_ID: whole}
            inner = client.create_run(experiment, run_name=variant, tags=tags).info.run_id
            values = run.values(variant)
            log(inner, run.variant_settings(variant), values)
            client.set_terminated(inner)
            count += len(values)
        for name in (*ARTIFACTS, *(("report.html",) if with_report else ())):
            path = run.folder.root / name
            if path.is_file():
                client.log_artifact(whole, str(path))
        state = "FINISHED"
    finally:
        client.set_terminated(whole, status=state)
    return count
