"""Job write-report: the records and results of a run -> one self-contained HTML file. Always runs."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

STEPS = ("raw", "curated", "vae", "latents", "base", "sft", "preferences", "dpo", "turbo", "enhancer", "aes", "results")
REPORT_NAME = "report.html"

JOB = Job(name="write-report", stage="report", kind="report", optional_inputs=STEPS, keyed=False)


def run(context: JobContext) -> Outcome:
    """Shows every given record; the results payload adds scores, the judge and the grid."""
    from imagewright.evaluation.report import ReportData, write_report
    from imagewright.evaluation.results import read_results

    records = [context.inputs[name].record for name in STEPS if name in context.inputs]
    results, grid = None, b""
    if "results" in context.inputs:
        folder = context.input_path("results")
        results = read_results(folder)
        grid = (folder / results.grid).read_bytes() if results.grid else b""
    path = context.output / REPORT_NAME
    title = f"Imagewright run: {context.config.name}"
    write_report(ReportData(title, recipe=context.config.name, records=records, results=results, grid_png=grid), path)
    return Outcome(counts={"num_steps_shown": len(records), "size_bytes": path.stat().st_size}, report=path)
