"""Job write-report: the records and results of a run -> one self-contained HTML file. Always runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from imagewright.jobs.job import Job, JobContext, Outcome
from imagewright.jobs.promote_model import DECISION_NAME
from imagewright.storage.records import Record, parse_record

# What the report shows, in the order of the data flow, and the job of a pipeline run that makes it.
STEPS = {
    "raw": "ingest-raw",
    "curated": "curate-manifest",
    "vae": "train-vae",
    "latents": "encode-latents",
    "base": "pretrain-dit",
    "sft": "finetune-sft",
    "preferences": "build-preferences",
    "dpo": "align-dpo",
    "aligned": "judge-alignment",
    "turbo": "distill-turbo",
    "drift": "measure-drift",
    "enhancer": "train-enhancer",
    "aes": "train-aesthetic",
    "aes_evidence": "evaluate-aesthetic",
    "results": "evaluate-models",
    "promotion": "promote-model",
}
REPORT_NAME = "report.html"
CURVES = ("train/loss", "validation/loss", "validation/psnr_db", "dpo/implicit_accuracy", "mt_dmd/critic_loss")

JOB = Job(name="write-report", stage="report", kind="report", optional_inputs=tuple(STEPS), keyed=False)


def run(context: JobContext) -> Outcome:
    """Shows every given record, and inside a pipeline run every record of that run: results, grid, curves and the gate's verdicts."""
    from imagewright.evaluation.report import ReportData, Verdict, write_report
    from imagewright.evaluation.results import read_results

    found = {**records_of_run(context), **{name: given.record for name, given in context.inputs.items()}}
    records = [found[name] for name in STEPS if name in found]
    results, grid, gate = None, b"", []
    if (folder := payload(context, found, "results")) is not None:
        results = read_results(folder)
        grid = (folder / results.grid).read_bytes() if results.grid else b""
    if (folder := payload(context, found, "promotion")) is not None:
        decision = json.loads((folder / DECISION_NAME).read_text(encoding="utf-8"))
        gate = [Verdict(verdict["rule"], verdict["passed"], verdict["reason"]) for verdict in decision["verdicts"]]
    path = context.output / REPORT_NAME
    title = f"Imagewright run: {context.config.name}"
    curves = curves_of(context)
    write_report(ReportData(title, context.config.name, records, results, grid, curves, gate), path)
    counts = {"num_steps_shown": len(records), "num_curves": len(curves), "size_bytes": path.stat().st_size}
    return Outcome(counts=counts, report=path)


def payload(context: JobContext, records: Mapping[str, Record], name: str) -> Path | None:
    """Folder with the payload of a step; None when the run has none or it is gone."""
    if name not in records or not records[name].digest or not context.store.exists(records[name].digest):
        return None
    folder = context.work / name
    if not folder.exists():
        context.store.get(records[name].digest, folder)
    return folder


def curves_of(context: JobContext) -> dict[str, list[tuple[int, float]]]:
    """Training curves of the run, where a tracking server is configured."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri or not context.pipeline_run:
        return {}
    from imagewright.tracking.history import curves_of_run

    return curves_of_run(uri, context.pipeline_run, CURVES)


def records_of_run(context: JobContext) -> dict[str, Record]:
    """Records of the pipeline run's other jobs: the exit handler of a pipeline cannot take their outputs as inputs."""
    found = {}
    for name, job in STEPS.items() if context.pipeline_run else ():
        stored = context.store.get_named(f"runs/{context.pipeline_run}/{job}.json")
        if stored is not None:
            found[name] = parse_record(stored.data, job)
    return found
