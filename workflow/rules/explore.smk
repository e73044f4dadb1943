"""explore: molecular dynamics with the committee, over states and walkers.

INPUTS   the cycle's committee, C/build/{bulk,molecules}.extxyz, C/config/cycle/NNN/explore.json, C/config/{system,site}.json
OUTPUTS  C/cycle/NNN/explore/STATE/{frames.extxyz,deviations.csv,walkers.json}
"""


rule explore_state:
    """All walkers of one state; a walker that explodes is a result."""
    input:
        models=lambda wildcards: models_of(wildcards.cycle, DEPLOYED),
        starts=f"{C}/build/bulk.extxyz",
        molecules=f"{C}/build/molecules.extxyz",
        config=f"{C}/config/cycle/{{cycle}}/explore.json",
        system=f"{C}/config/system.json",
        site=ancient(f"{C}/config/site.json"),
    output:
        frames=f"{C}/cycle/{{cycle}}/explore/{{state}}/frames.extxyz",
        deviations=f"{C}/cycle/{{cycle}}/explore/{{state}}/deviations.csv",
        walkers=f"{C}/cycle/{{cycle}}/explore/{{state}}/walkers.json",
    log:
        f"{LOGS}/cycle/{{cycle}}/explore/{{state}}.log",
    threads: SITE.md_threads
    resources:
        **SITE.resources("explore"),
        mem_mb=memory("explore", 4000),
        runtime=minutes("explore", 480),
    params:
        out=f"{C}/cycle/{{cycle}}/explore/{{state}}",
        models=repeated("--model", "models"),
        cycle=lambda wildcards: int(wildcards.cycle),
    shell:
        "mlpwf --log {log:q} explore --config {input.config:q} --site {input.site:q} --system {input.system:q}"
        " {params.models:q} --starts {input.starts:q} --molecules {input.molecules:q} --state {wildcards.state:q}"
        " --cycle {params.cycle} --out {params.out:q}"
