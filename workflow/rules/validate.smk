"""validate: is the final model to be trusted?

INPUTS   C/train/final/model.pb, held-out labels, C/build/molecules.extxyz, C/config/{validate,system,site}.json
OUTPUTS  C/validate/{errors.json,parity.csv,runs.json,nve.csv,rdf.csv}
"""


rule validate_model:
    """Errors by state, energy conservation, stability, density and structure."""
    input:
        model=f"{C}/train/final/model.pb",
        test=f"{C}/test/label/labels.extxyz",
        molecules=f"{C}/build/molecules.extxyz",
        config=f"{C}/config/validate.json",
        system=f"{C}/config/system.json",
        site=ancient(f"{C}/config/site.json"),
    output:
        errors=f"{C}/validate/errors.json",
        parity=f"{C}/validate/parity.csv",
        runs=f"{C}/validate/runs.json",
        nve=f"{C}/validate/nve.csv",
        rdf=f"{C}/validate/rdf.csv",
    log:
        f"{LOGS}/validate/model.log",
    threads: SITE.md_threads
    resources:
        **SITE.resources("validate"),
        mem_mb=memory("validate", 8000),
        runtime=minutes("validate", 480),
    params:
        out=f"{C}/validate",
    shell:
        "mlpwf --log {log:q} validate --config {input.config:q} --site {input.site:q} --system {input.system:q}"
        " --model {input.model:q} --molecules {input.molecules:q} --test-labels {input.test:q} --out {params.out:q}"
