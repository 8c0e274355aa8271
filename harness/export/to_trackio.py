"""trackio: a run for each variant, grouped by the harness's run, in a local folder (``TRACKIO_DIR``)."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout

from harness.export.destinations import Wanted
from harness.export.figures import ExportedRun

PROJECT = "medical-dialogue-harness"


def export(run: ExportedRun, wanted: Wanted) -> list[str]:
    """Log the run to a local trackio project.

    trackio reads its folder and its servers from the environment when it is imported. All of that is removed, so that
    nothing is sent to a Space, a server or a webhook.
    """
    place = wanted.place(run, "trackio").resolve()
    for variable in [name for name in os.environ if name.startswith("TRACKIO_")]:
        del os.environ[variable]
    os.environ["TRACKIO_DIR"] = str(place)
    import trackio

    count = 0
    for variant in run.variants:
        config = {**run.facts, **run.settings(), **run.variant_settings(variant)}
        values = run.values(variant)
        with redirect_stdout(io.StringIO()):  # it says "Uploading" where it writes to its folder
            trackio.init(
                project=PROJECT,
                name=f"{run.name}-{variant}",
                group=run.name,
                config=config,
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            trackio.log(values)
            trackio.finish()
        count += len(values)
    return [f"{place}: project {PROJECT}, {len(run.variants)} runs, {count} values"]
