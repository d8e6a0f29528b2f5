"""Jobs that start while the run they share is still being decided all log below the one that stays."""

from __future__ import annotations

import threading

from mlflow import MlflowClient

from imagewright.tracking.identity import DEFAULT_EXPERIMENT, PARENT_TAG, JobIdentity, resolve
from imagewright.tracking.server import TrackingServer


def test_a_job_does_not_log_below_a_run_its_maker_is_about_to_give_up(server_uri: str, client: MlflowClient) -> None:
    """Two processes made the pipeline's run at once; the one with the earlier start will step back, as the other was settled first."""
    server = TrackingServer(server_uri)
    experiment = server.experiment(DEFAULT_EXPERIMENT)
    tags = JobIdentity("", pipeline_run="contested").all_tags()
    given_up = server.create_run(experiment, "contested", tags, 1)
    stays = server.create_run(experiment, "contested", tags, 2)

    def decide() -> None:
        client.set_tag(stays, "settled", "1")
        client.delete_run(given_up)

    maker = threading.Timer(0.3, decide)
    maker.start()
    binding = resolve(server, JobIdentity("job", pipeline_run="contested", started_at_ms=3, settle_seconds=2.0))
    maker.join()
    assert binding.parent == stays
    assert client.get_run(binding.run).data.tags[PARENT_TAG] == stays


def test_a_run_whose_maker_died_before_it_settled_is_used_and_settled(server_uri: str, client: MlflowClient) -> None:
    server = TrackingServer(server_uri)
    experiment = server.experiment(DEFAULT_EXPERIMENT)
    orphan = server.create_run(experiment, "orphaned", JobIdentity("", pipeline_run="orphaned").all_tags(), 1)
    binding = resolve(server, JobIdentity("job", pipeline_run="orphaned", started_at_ms=2, settle_seconds=0.05))
    assert binding.parent == orphan
    assert client.get_run(orphan).data.tags["settled"] == "1"
