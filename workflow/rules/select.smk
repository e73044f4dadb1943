"""select: which explored frames are worth a label, and whether the campaign ends.

INPUTS   explored frames of every state, labels so far, a model's descriptors, C/cycle/NNN/train/{errors,calibration}.json,
         C/cycle/NNN/validate/liquid.json of the cycles compared, C/config/cycle/NNN/select.json, C/config/label.json, C/label/error.json
OUTPUTS  C/cycle/NNN/select/{frames.extxyz,decisions.csv,status.json}
"""


checkpoint select_frames:
    """Classify, deduplicate and pick within the budget; say whether to continue."""
    input:
        explored=lambda wildcards: [
            PATHS.cycle(wildcards.cycle).explore(state).frames
            for state in states(
                settings("explore", wildcards.cycle), CAMPAIGN.system.density_g_cm3
            )
        ],
        labels=lambda wildcards: labels_until(wildcards.cycle),
        model=lambda wildcards: models_of(wildcards.cycle, ORIGINAL)[0],
        committee=lambda wildcards: models_of(wildcards.cycle, DEPLOYED),
        calibration=CYCLE.train.calibration,
        errors=CYCLE.train.errors,
        previous=lambda wildcards: (
            []
            if wildcards.cycle == "000"
            else PATHS.cycle(previous(wildcards.cycle)).train.errors
        ),
        liquids=lambda wildcards: [
            PATHS.cycle(cycle).validate.liquid
            for cycle in compared_cycles(wildcards.cycle)
        ],
        molecules=PATHS.build.molecules,
        config=PATHS.cycle_config("{cycle}", "select"),
        label=PATHS.config("label"),
        label_error=LABEL_ERROR,
    output:
        frames=CYCLE.select.frames,
        decisions=CYCLE.select.decisions,
        status=CYCLE.select.status,
        baselines=[CYCLE.select.selected(line) for line in BASELINES],
    log:
        f"{LOGS}/cycle/{{cycle}}/select/frames.log",
    resources:
        **SITE.resources("select"),
        mem_mb=memory("select", 4000),
        runtime=minutes("select", 60),
    params:
        out=str(CYCLE.select),
        explored=repeated("--explored", "explored"),
        labels=repeated("--labels", "labels"),
        models=repeated("--model", "committee"),
        liquids=repeated("--liquid", "liquids"),
        previous=lambda wildcards, input: (
            ["--previous-errors", input.previous] if input.get("previous") else []
        ),
        label_error=["--label-error", str(LABEL_ERROR)] if LABEL_ERROR else [],
        earlier=lambda wildcards: [
            word
            for cycle in range(int(wildcards.cycle) if BASELINES else 0)
            for word in ("--earlier", str(PATHS.cycle(cycle).select))
        ],
        cycle=lambda wildcards: int(wildcards.cycle),
        campaign=C,
    shell:
        "mlpwf --log {log:q} select --config {input.config:q} {params.explored:q} {params.labels:q}"
        " --descriptor-model {input.model:q} --errors {input.errors:q} --molecules {input.molecules:q}"
        " {params.models:q} --calibration {input.calibration:q} {params.previous:q} {params.earlier:q}"
        " {params.liquids:q} {params.label_error:q}"
        " --cycle {params.cycle} --label {input.label:q} --campaign {params.campaign:q} --out {params.out:q}"
