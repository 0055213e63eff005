# Snakemake schedules the stages of dvc.yaml; DVC alone defines them and determines which are stale. A job is
# `dvc repro --single-item STAGE`, on this machine or, with --profile profiles/slurm, on a cluster's nodes; a file in FRESH
# marks each stage that DVC reports as up to date.
import json
import os
import re
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, workflow.basedir)
from engines.devices import visible_gpus
from rsa.scaling.need import Need, memory_and_minutes

FRESH, PLAN = Path(".dvc/tmp/fresh"), Path(".dvc/tmp/plan.json")


def marker(name):
    return str(FRESH / quote(name, safe="@"))


if workflow.is_main_process:
    from engines.lock_order import remember_order, restore_order
    from engines.plan import asked_to_force, force, kind, plan, update_code
    from pipeline.portable import LIMITS, has_avx2
    from rsa import fork_server
    from rsa.file_locks import unsafe
    from rsa.params.runtime import Runtime
    from rsa.params.sections import read_sections
    from snakemake.exceptions import WorkflowError
    from snakemake.logging import logger

    # A job says itself what it does and has made.
    logger.addFilter(lambda record: not str(record.msg).startswith(("Select jobs", "Execute ", "Touching output file")))

    if why := unsafe(Path(), shared=False):
        raise WorkflowError(why)
    try:
        update_code()
        if read_sections(Path("params.yaml"), {"runtime": Runtime})["runtime"].portable and has_avx2():
            os.environ.update(LIMITS)  # so that no stage has to start again with them
        planned = force(plan(), asked_to_force(sys.argv[1:]))
    except ValueError as why:
        raise WorkflowError(str(why))
    stages = {name: stage._asdict() for name, stage in planned.items()}
    FRESH.mkdir(parents=True, exist_ok=True)
    for old in (*FRESH.iterdir(), *Path(".snakemake/incomplete").glob("*")):  # left by killed jobs; DVC knows what is unfinished
        old.unlink()
    for name, stage in stages.items():
        if not stage["stale"]:
            Path(marker(name)).touch()
    PLAN.write_text(json.dumps(stages))
else:  # every job reads this file again and gets the same plan
    stages = json.loads(PLAN.read_text())

names = {Path(marker(name)).name: name for name in stages}


def stage_of(wildcards):
    """Return what the plan has of a job's stage."""
    return stages[names[wildcards.stage]]


def meta(key, default=None):
    """Return a function of a job's wildcards: what `meta` of its stage in dvc.yaml has under a key."""
    return lambda wildcards: stage_of(wildcards)["meta"].get(key, default)


@cache
def count_needs():
    """Add the needs of all stages to the plan, which jobs read, too. This takes some seconds."""
    from rsa.params.load import load
    from rsa.scaling.jobs import needs

    for name, need in needs(load(Path("params.yaml"))).items():
        stages[name]["need"] = asdict(need)
    PLAN.write_text(json.dumps(stages))


def needed(key):
    """Return a function of a job's wildcards: its `mem_mb` or `minutes`.

    They are computed when it is about to start, where that is elsewhere or memory is limited; else they are those of its `meta`.
    """

    def of(wildcards):
        if workflow.is_main_process and (workflow.non_local_exec or "mem_mb" in workflow.global_resources):
            count_needs()  # not before: while this file is read, Snakemake does not know yet where jobs will run
        stage = stage_of(wildcards)
        return memory_and_minutes(stage["meta"], Need(**stage["need"]) if "need" in stage else None)[key]

    return of


def nodes(wildcards):
    """Return on how many nodes a job runs; on this machine all are one."""
    return 1 if workflow.local_exec else meta("nodes", 1)(wildcards)


def gpus(wildcards):
    """Return the GPUs of a job on all of its nodes."""
    if workflow.local_exec and not visible_gpus():  # a cluster's nodes have their own
        return 0
    return meta("gpu")(wildcards) * nodes(wildcards)


def threads(wildcards):
    """Return the CPU threads of a job's processes on one node."""
    processes = meta("processes", 1)(wildcards)
    if processes == "auto":
        processes = max(1, gpus(wildcards) // nodes(wildcards))
    return processes * meta("threads")(wildcards)


def several_nodes(family):
    """Return what Slurm is asked for besides where jobs run on several nodes: they start their processes themselves, by srun."""
    meta = next(stage["meta"] for name, stage in stages.items() if name.partition("@")[0] == family)
    count = meta.get("nodes", 1)
    if count == 1:
        return {}
    return dict(nodes=count, tasks=count, tasks_per_gpu=0, mpi="srun", gres=f"gpu:{meta['gpu']}")


onstart:
    if workflow.non_local_exec and (why := unsafe(Path(), shared=True)):  # not known before
        raise WorkflowError(why)
    remember_order()
    if workflow.local_exec and not visible_gpus():  # where training takes days, what starts cost is nothing
        needed_now = {f"pipeline.{kind(name)}" for name, stage in stages.items() if stage["stale"]}
        os.environ.update(fork_server.start({"engines.job", *needed_now}))


onsuccess:
    restore_order(stages)


onerror:
    restore_order(stages)


report: "engines/report/start.rst"


# `snakemake --report FILE` includes the report and its figures. Only then are they outputs of a rule: otherwise Snakemake would
# delete files managed by DVC before a run.
shown = any(argument.partition("=")[0] == "--report" for argument in sys.argv)


rule all:
    input:
        [marker(name) for name in stages],
        ["reports/report.html", "reports/scores.csv", "reports/figures"] if shown else [],


if shown:

    rule show:
        input:
            marker("report"),
        output:
            report("reports/report.html", category="Report", caption="engines/report/page.rst"),
            report("reports/scores.csv", category="Report", caption="engines/report/scores.rst"),
            report(
                directory("reports/figures"),
                patterns=["{figure}.svg"],
                category="Figures",
                caption="engines/report/figure.rst",
            ),


# Every name of a stage, and of an entry of dvc.yaml, is a target: `snakemake pretrain@rsa-0`, `snakemake pretrain`.
families = dict.fromkeys(name.partition("@")[0] for name in stages)
for target in dict.fromkeys([*families, *stages]):

    rule:
        name:
            target
        input:
            [marker(name) for name in stages if target in (name, name.partition("@")[0])],


for family in families:

    rule:
        name:
            f"run_{family}"
        input:
            lambda wildcards: ancient([marker(name) for name in stage_of(wildcards)["needs"]]),
        output:
            touch(f"{FRESH}/{{stage,{re.escape(family)}(@.*)?}}"),
        params:
            stage=lambda wildcards: names[wildcards.stage],
            gpus=lambda wildcards, resources: resources.gpu // nodes(wildcards),
            options=lambda wildcards: "--force" if stage_of(wildcards)["forced"] else "",
        threads: threads
        resources:
            gpu=gpus,
            mem_mb=needed("mem_mb"),
            runtime=needed("minutes"),
            **several_nodes(family),
        shell:
            "exec python -m engines.devices {params.gpus} python -m engines.job {params.stage:q} {params.options}"
