"""simulate: production molecular dynamics, each state in as many segments as its length and the wall time ask for.

INPUTS   the final model or the files of simulate.force_field, C/build/molecules.extxyz, C/config/{simulate,system,site}.json,
         C/config/simulate/STATE.json
OUTPUTS  C/simulate/STATE/segment/SSS/{trajectory.trr,thermo.csv,stress.npz,restart.bin,summary.json,kept.json},
         C/simulate/STATE/run/LENGTHps.json

A segment ends when the run is as long as asked, or before the wall time of its
job; where it ended is in its summary, and the next one, if there is to be one,
goes on from there. A segment depends on C/config/simulate/STATE.json and not on
the whole section, so that a longer run and one more temperature repeat nothing.
Only the summary is an output to Snakemake, and one that it must not delete
before a job: by it a finished segment is known again. The length asked for is
part of a file's name, because Snakemake looks at no other change of a job whose
inputs await a checkpoint.
"""


def segments_of(wildcards):
    """Summaries of a state's segments: those there are, and the next one until the run is as long as asked."""
    if PLAN:
        return [PATHS.simulate(wildcards.state).segment(0).summary]
    summaries = []
    for number in range(1000):
        segment = checkpoints.simulate_segment.get(
            state=wildcards.state, segment=f"{number:03d}"
        )
        summaries.append(segment.output.summary)
        summary = json.loads(Path(segment.output.summary).read_text())
        if not summary["stable"] or summary["end_ps"] > float(wildcards.length) - 1e-6:
            return summaries
    raise WorkflowError(
        f"{PATHS.simulate(wildcards.state)}: 1000 segments and not done; expected longer ones: ask for more wall time"
    )


checkpoint simulate_segment:
    """A state's run, as far as the wall time of one job goes; what is killed goes on from its last checkpoint."""
    input:
        settings=PATHS.state_config("{state}"),
        model=([str(path) for _, path in FORCE_FIELD] if FORCE_FIELD else final_model),
        molecules=PATHS.build.molecules,
        config=ancient(PATHS.config("simulate")),
        system=ancient(PATHS.config("system")),
        site=ancient(PATHS.config("site")),
        before=lambda wildcards: (
            []
            if wildcards.segment == "000"
            else PATHS.simulate(wildcards.state)
            .segment(int(wildcards.segment) - 1)
            .summary
        ),
    output:
        summary=update(PATHS.simulate("{state}").segment("{segment}").summary),
    log:
        f"{LOGS}/simulate/{{state}}/segment/{{segment}}.log",
    threads: SITE.md_threads
    resources:
        **SITE.resources("simulate"),
        mem_mb=memory("simulate", 8000),
        runtime=minutes("simulate", 720),
    params:
        out=str(PATHS.simulate("{state}")),
        segment=lambda wildcards: int(wildcards.segment),
        model=lambda wildcards, input: [] if FORCE_FIELD else ["--model", input.model],
        before=lambda wildcards, input: (
            ["--previous", str(input.before)] if input.get("before") else []
        ),
    shell:
        "mlpwf --log {log:q} simulate segment --config {input.config:q} --site {input.site:q}"
        " --system {input.system:q} {params.model:q} --molecules {input.molecules:q} --state {wildcards.state:q}"
        " --segment {params.segment} {params.before:q} --minutes {resources.runtime} --out {params.out:q}"


rule simulate_collect:
    """How far a state's run came, once it is as long as asked."""
    input:
        segments=segments_of,
    output:
        run=PATHS.simulate("{state}").run("{length}"),
    log:
        f"{LOGS}/simulate/{{state}}/run/{{length}}ps.log",
    resources:
        **SITE.resources("simulate"),
        mem_mb=memory("simulate", 1000),
        runtime=minutes("simulate", 30),
    params:
        state=str(PATHS.simulate("{state}")),
    shell:
        "mlpwf --log {log:q} simulate collect --folder {params.state:q} --length-ps {wildcards.length:q} --out {output.run:q}"
