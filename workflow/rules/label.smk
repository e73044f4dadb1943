"""label: first-principles labels in batches, through the store.

INPUTS   the frames of a set, C/config/{label,site}.json
OUTPUTS  SET/label/batch/BBB.json, SET/label/{labels.extxyz,summary.json}, C/label/error.{json,csv}

A frame that cannot be labelled is a record, never a failed job; the labels
themselves live in the store, where no failed job can take them away.
"""


def frames_of(wildcards):
    """The frames a set's labels are computed for."""
    if wildcards.set == "test":
        return PATHS.build.test
    line, cycle = wildcards.set.rsplit("/", 1)
    if cycle == "000":
        return PATHS.build.start
    name = "frames" if line == "cycle" else line
    return PATHS.cycle(previous(cycle)).select.selected(name)


def batches_of(wildcards):
    """How many batches a set's frames are dealt to."""
    if wildcards.set == "test":
        frames = CAMPAIGN.build.test_frames
    elif wildcards.set == "cycle/000":
        frames = CAMPAIGN.build.start_frames(len(CAMPAIGN.system.molecules))
    else:
        frames = settings("select", previous(wildcards.set.rsplit("/", 1)[1])).budget
    return -(-frames // CAMPAIGN.label.batch_frames)


def committee_before(wildcards):
    """The models a cycle's new labels are compared with: those trained before it."""
    if wildcards.set in ("test", "cycle/000"):
        return []
    line, cycle = wildcards.set.rsplit("/", 1)
    return models_of(previous(cycle), DEPLOYED, line)


rule label_batch:
    """Label one batch of frames, one pw.x after another."""
    input:
        frames=frames_of,
        config=PATHS.config("label"),
        site=ancient(PATHS.config("site")),
    output:
        record=SET.batch("{batch}"),
    log:
        f"{LOGS}/{{set}}/label/batch/{{batch}}.log",
    threads: SITE.label_threads
    resources:
        **SITE.resources("label"),
        mem_mb=memory("label", 4000),
        runtime=minutes("label", 480),
    params:
        out=str(SET),
        batch=lambda wildcards: int(wildcards.batch),
        batches=batches_of,
        campaign=C,
    shell:
        "mlpwf --log {log:q} label batch --config {input.config:q} --site {input.site:q} --frames {input.frames:q}"
        " --batch {params.batch} --batches {params.batches} --campaign {params.campaign:q} --minutes {resources.runtime}"
        " --out {params.out:q}"


rule label_collect:
    """Gather the batches of a set into one file of labelled frames."""
    input:
        frames=frames_of,
        config=PATHS.config("label"),
        site=ancient(PATHS.config("site")),
        records=lambda wildcards: [
            PATHS.set(wildcards.set).batch(batch)
            for batch in range(batches_of(wildcards))
        ],
        previous=committee_before,
    output:
        labels=SET.labels,
        summary=SET.summary,
    log:
        f"{LOGS}/{{set}}/label/collect.log",
    resources:
        **SITE.resources("label"),
        mem_mb=memory("label", 2000),
        runtime=minutes("label", 30),
    params:
        out=str(SET),
        records=repeated("--batch", "records"),
        previous=repeated("--previous", "previous"),
    shell:
        "mlpwf --log {log:q} label collect --config {input.config:q} --site {input.site:q} --frames {input.frames:q}"
        " {params.records:q} {params.previous:q} --out {params.out:q}"


rule label_error:
    """Label a few frames of each box size once more, converged: the error of the labels themselves."""
    input:
        labels=PATHS.cycle(0).label.labels,
        config=PATHS.config("label"),
        site=ancient(PATHS.config("site")),
    output:
        error=PATHS.label_error,
        table=PATHS.label_error_table,
    log:
        f"{LOGS}/label/error.log",
    # Nothing but select waits for it: a committee is trained first where cores are short.
    priority: -1
    threads: SITE.label_threads
    resources:
        **SITE.resources("label"),
        mem_mb=memory("label", 8000),
        runtime=minutes("label", 480),
    params:
        out=str(PATHS.label_error.parent),
    shell:
        "mlpwf --log {log:q} label error --config {input.config:q} --site {input.site:q} --labels {input.labels:q}"
        " --out {params.out:q}"
