"""validate: is a model to be trusted? The final one, and those of the cycles whose liquids must agree.

INPUTS   the model, held-out labels, C/build/molecules.extxyz, C/config/{validate,system,site}.json (a cycle's:
         C/config/cycle/NNN/validate.json)
OUTPUTS  C/validate/{errors.json,parity.csv,runs.json,nve.csv,rdf.csv,liquid.json}, C/cycle/NNN/validate/… alike;
         C/validate/verdict.json: production waits for it, and there is none if it is not good
"""


def final_cycles_runs(wildcards):
    """The runs of the final model, where it is a cycle's that has been compared with others."""
    cycle = final_cycle(wildcards)
    if CAMPAIGN.train.steps_final or not compared_cycles(cycle):
        return []
    return PATHS.cycle(cycle).validate.runs


rule validate_cycle:
    """The same for the model of a cycle: its density, g(r) and diffusion are compared with other cycles'."""
    input:
        model=lambda wildcards: models_of(wildcards.cycle, DEPLOYED)[0],
        test=PATHS.test.labels,
        molecules=PATHS.build.molecules,
        config=PATHS.cycle_config("{cycle}", "validate"),
        system=PATHS.config("system"),
        site=ancient(PATHS.config("site")),
    output:
        errors=CYCLE.validate.errors,
        parity=CYCLE.validate.parity,
        runs=CYCLE.validate.runs,
        nve=CYCLE.validate.nve,
        rdf=CYCLE.validate.rdf,
        liquid=CYCLE.validate.liquid,
    log:
        f"{LOGS}/cycle/{{cycle}}/validate.log",
    threads: SITE.md_threads
    resources:
        **SITE.resources("validate"),
        mem_mb=memory("validate", 8000),
        runtime=minutes("validate", 480),
    params:
        out=str(CYCLE.validate),
        cycle=lambda wildcards: int(wildcards.cycle),
    shell:
        "mlpwf --log {log:q} validate model --config {input.config:q} --site {input.site:q} --system {input.system:q}"
        " --model {input.model:q} --molecules {input.molecules:q} --test-labels {input.test:q}"
        " --cycle {params.cycle} --out {params.out:q}"


rule validate_model:
    """Errors by state, energy conservation, stability, density and structure."""
    input:
        model=final_model,
        test=PATHS.test.labels,
        molecules=PATHS.build.molecules,
        config=PATHS.config("validate"),
        system=PATHS.config("system"),
        site=ancient(PATHS.config("site")),
        known=final_cycles_runs,
    output:
        errors=PATHS.validate.errors,
        parity=PATHS.validate.parity,
        runs=PATHS.validate.runs,
        nve=PATHS.validate.nve,
        rdf=PATHS.validate.rdf,
        liquid=PATHS.validate.liquid,
    log:
        f"{LOGS}/validate/model.log",
    threads: SITE.md_threads
    resources:
        **SITE.resources("validate"),
        mem_mb=memory("validate", 8000),
        runtime=minutes("validate", 480),
    params:
        out=str(PATHS.validate),
        known=lambda wildcards, input: (
            ["--known", str(Path(str(input.known)).parent)]
            if input.get("known")
            else []
        ),
    shell:
        "mlpwf --log {log:q} validate model --config {input.config:q} --site {input.site:q} --system {input.system:q}"
        " --model {input.model:q} --molecules {input.molecules:q} --test-labels {input.test:q} {params.known:q}"
        " --out {params.out:q}"


checkpoint validate_verdict:
    """Is the final model fit for production?"""
    input:
        final=PATHS.final.record,
        runs=PATHS.validate.runs,
    output:
        verdict=PATHS.validate.verdict,
    log:
        f"{LOGS}/validate/verdict.log",
    resources:
        **SITE.resources("validate"),
        mem_mb=memory("validate", 1000),
        runtime=minutes("validate", 30),
    shell:
        "mlpwf --log {log:q} validate verdict --final {input.final:q} --runs {input.runs:q} --out {output.verdict:q}"
