"""Execution of the pipeline: Snakemake schedules the stages that DVC reports as stale, and jobs acquire devices."""
