"""How the engines run the pipeline: what DVC calls stale, for Snakemake to schedule, and which devices a job gets."""
