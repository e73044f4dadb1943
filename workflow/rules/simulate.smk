"""simulate: production molecular dynamics in segments, each from the last one's restart file.

INPUTS   C/train/final/model.pb, C/build/molecules.extxyz, C/config/{simulate,system,site}.json
OUTPUTS  C/simulate/STATE/segment/SSS/{trajectory.trr,restart.bin,thermo.csv,summary.json}
"""


rule simulate_segment:
    """One segment of one state; only the segment in flight is ever lost."""
    input:
        model=f"{C}/train/final/model.pb",
        molecules=f"{C}/build/molecules.extxyz",
        config=f"{C}/config/simulate.json",
        system=f"{C}/config/system.json",
        site=ancient(f"{C}/config/site.json"),
        before=lambda wildcards: (
            []
            if wildcards.segment == "000"
            else f"{C}/simulate/{wildcards.state}/segment/{int(wildcards.segment) - 1:03d}/restart.bin"
        ),
    output:
        trajectory=f"{C}/simulate/{{state}}/segment/{{segment}}/trajectory.trr",
        restart=f"{C}/simulate/{{state}}/segment/{{segment}}/restart.bin",
        thermo=f"{C}/simulate/{{state}}/segment/{{segment}}/thermo.csv",
        summary=f"{C}/simulate/{{state}}/segment/{{segment}}/summary.json",
    log:
        f"{LOGS}/simulate/{{state}}/segment/{{segment}}.log",
    threads: SITE.md_threads
    resources:
        **SITE.resources("simulate"),
        mem_mb=memory("simulate", 8000),
        runtime=minutes("simulate", 720),
    params:
        out=f"{C}/simulate/{{state}}",
        segment=lambda wildcards: int(wildcards.segment),
        before=lambda wildcards, input: (
            ["--previous", str(input.before)] if input.get("before") else []
        ),
    shell:
        "mlpwf --log {log:q} simulate --config {input.config:q} --site {input.site:q} --system {input.system:q}"
        " --model {input.model:q} --molecules {input.molecules:q} --state {wildcards.state:q}"
        " --segment {params.segment} {params.before:q} --out {params.out:q}"
