"""Job write-report: the records and results of a run -> one self-contained HTML file. Always runs."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome
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
    "turbo": "distill-turbo",
    "enhancer": "train-enhancer",
    "aes": "train-aesthetic",
    "results": "evaluate-models",
    "promotion": "promote-model",
}
REPORT_NAME = "report.html"

JOB = Job(name="write-report", stage="report", kind="report", optional_inputs=tuple(STEPS), keyed=False)


def run(context: JobContext) -> Outcome:
    """Shows every given record, and inside a pipeline run every record of that run; the results payload adds scores and the grid."""
    from imagewright.evaluation.report import ReportData, write_report
    from imagewright.evaluation.results import read_results

    found = {**records_of_run(context), **{name: given.record for name, given in context.inputs.items()}}
    records = [found[name] for name in STEPS if name in found]
    results, grid = None, b""
    if "results" in found and context.store.exists(found["results"].digest):
        folder = context.inputs["results"].path if "results" in context.inputs else context.work / "results"
        if not folder.exists():
            context.store.get(found["results"].digest, folder)
        results = read_results(folder)
        grid = (folder / results.grid).read_bytes() if results.grid else b""
    path = context.output / REPORT_NAME
    title = f"Imagewright run: {context.config.name}"
    write_report(ReportData(title, recipe=context.config.name, records=records, results=results, grid_png=grid), path)
    return Outcome(counts={"num_steps_shown": len(records), "size_bytes": path.stat().st_size}, report=path)


def records_of_run(context: JobContext) -> dict[str, Record]:
    """Records of the pipeline run's other jobs: the exit handler of a pipeline cannot take their outputs as inputs."""
    found = {}
    for name, job in STEPS.items() if context.pipeline_run else ():
        stored = context.store.get_named(f"runs/{context.pipeline_run}/{job}.json")
        if stored is not None:
            found[name] = parse_record(stored.data, job)
    return found
