"""validate: is a model to be trusted? The final one, and those of the cycles whose liquids must agree.

INPUTS   the model, held-out labels, C/build/molecules.extxyz, C/config/{validate,system,site}.json (a cycle's:
         C/config/cycle/NNN/validate.json)
OUTPUTS  C/validate/{errors.json,parity.csv,runs.json,nve.csv,rdf.csv,liquid.json}, C/cycle/NNN/validate/… alike
"""


def final_cycles_runs(wildcards):
    """The runs of the final model, where it is a cycle's that has been compared with others."""
    cycle = final_cycle(wildcards)
    if CAMPAIGN.train.steps_final or not compared_cycles(cycle):
        return []
    return f"{C}/cycle/{cycle}/validate/runs.json"


rule validate_cycle:
    """The same for the model of a cycle: its density, g(r) and diffusion are compared with other cycles'."""
    input:
        model=lambda wildcards: models_of(wildcards.cycle, DEPLOYED)[0],
        test=f"{C}/test/label/labels.extxyz",
        molecules=f"{C}/build/molecules.extxyz",
        config=f"{C}/config/cycle/{{cycle}}/validate.json",
        system=f"{C}/config/system.json",
        site=ancient(f"{C}/config/site.json"),
    output:
        errors=f"{C}/cycle/{{cycle}}/validate/errors.json",
        parity=f"{C}/cycle/{{cycle}}/validate/parity.csv",
        runs=f"{C}/cycle/{{cycle}}/validate/runs.json",
        nve=f"{C}/cycle/{{cycle}}/validate/nve.csv",
        rdf=f"{C}/cycle/{{cycle}}/validate/rdf.csv",
        liquid=f"{C}/cycle/{{cycle}}/validate/liquid.json",
    log:
        f"{LOGS}/cycle/{{cycle}}/validate.log",
    threads: SITE.md_threads
    resources:
        **SITE.resources("validate"),
        mem_mb=memory("validate", 8000),
        runtime=minutes("validate", 480),
    params:
        out=f"{C}/cycle/{{cycle}}/validate",
        cycle=lambda wildcards: int(wildcards.cycle),
    shell:
        "mlpwf --log {log:q} validate --config {input.config:q} --site {input.site:q} --system {input.system:q}"
        " --model {input.model:q} --molecules {input.molecules:q} --test-labels {input.test:q}"
        " --cycle {params.cycle} --out {params.out:q}"


rule validate_model:
    """Errors by state, energy conservation, stability, density and structure."""
    input:
        model=final_model,
        test=f"{C}/test/label/labels.extxyz",
        molecules=f"{C}/build/molecules.extxyz",
        config=f"{C}/config/validate.json",
        system=f"{C}/config/system.json",
        site=ancient(f"{C}/config/site.json"),
        known=final_cycles_runs,
    output:
        errors=f"{C}/validate/errors.json",
        parity=f"{C}/validate/parity.csv",
        runs=f"{C}/validate/runs.json",
        nve=f"{C}/validate/nve.csv",
        rdf=f"{C}/validate/rdf.csv",
        liquid=f"{C}/validate/liquid.json",
    log:
        f"{LOGS}/validate/model.log",
    threads: SITE.md_threads
    resources:
        **SITE.resources("validate"),
        mem_mb=memory("validate", 8000),
        runtime=minutes("validate", 480),
    params:
        out=f"{C}/validate",
        known=lambda wildcards, input: (
            ["--known", str(Path(str(input.known)).parent)]
            if input.get("known")
            else []
        ),
    shell:
        "mlpwf --log {log:q} validate --config {input.config:q} --site {input.site:q} --system {input.system:q}"
        " --model {input.model:q} --molecules {input.molecules:q} --test-labels {input.test:q} {params.known:q}"
        " --out {params.out:q}"
