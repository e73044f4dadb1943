"""train: a committee of models a cycle, their errors, and the final model.

INPUTS   labels of this cycle and all before, C/config/cycle/NNN/train.json, C/config/{train,site}.json,
         the previous committee
OUTPUTS  C/cycle/NNN/train/model/K/{ORIGINAL,DEPLOYED,check.json,lcurve.csv},
         C/cycle/NNN/train/{errors.json,parity.csv,calibration.json,pairs.csv},
         C/train/final/{ORIGINAL,DEPLOYED,final.json},
         with train.steps_final C/train/longer/ as a model/K

ORIGINAL is a model as trained and DEPLOYED what is run of it, by the names its engine gives them. They are outputs
that Snakemake must not delete before a job: by them the verb knows a finished training.
"""


def line_before(wildcards):
    """Where the previous cycle stands: the first is shared by all baselines."""
    return "cycle" if wildcards.cycle == "001" else wildcards.line


def training_labels(cycle, line="cycle"):
    """What the models of a cycle are trained on."""
    replay = CAMPAIGN.train.replay
    return [*labels_until(cycle, line), *([str(replay)] if replay else [])]


def start_of(wildcards):
    """The record of the model that a model starts from: the one before, or in the first cycle that of a user."""
    if wildcards.cycle == "000":
        given = CAMPAIGN.train.start_from
        return str(record_path(given) or given) if given else []
    continued = settings("train", wildcards.cycle).continue_models
    if not continued or not ENGINE.can(Ability.CONTINUE):
        return []
    files = models_of(previous(wildcards.cycle), RECORD, wildcards.line)
    return files[int(wildcards.index) : int(wildcards.index) + 1]


rule train_model:
    """Train and deploy one model of the committee."""
    input:
        labels=lambda wildcards: training_labels(wildcards.cycle, wildcards.line),
        config=PATHS.cycle_config("{cycle}", "train"),
        site=ancient(PATHS.config("site")),
        start=start_of,
        molecules=PATHS.build.molecules if ENGINE.of_molecules else [],
    output:
        model=update(LINE.train.model("{index}") / ORIGINAL),
        deployed=update(LINE.train.model("{index}") / DEPLOYED),
        check=update(LINE.train.model("{index}") / RECORD),
        lcurve=update(LINE.train.model("{index}") / ENGINE.curve),
    log:
        f"{LOGS}/{{line}}/{{cycle}}/train/model/{{index}}.log",
    threads: cores("train", SITE.train_threads)
    resources:
        **SITE.resources("train"),
        mem_mb=memory("train", 4000),
        runtime=minutes("train", 720),
    params:
        out=str(LINE.train.model("{index}")),
        labels=repeated("--labels", "labels"),
        start=lambda wildcards, input: (
            ["--start", str(Path(str(input.start)).parent)]
            if input.get("start")
            else []
        ),
        molecules=repeated("--molecules", "molecules"),
    shell:
        "mlpwf --log {log:q} train model --config {input.config:q} --site {input.site:q} {params.labels:q}"
        " --index {wildcards.index} {params.start:q} {params.molecules:q} --threads {threads} --out {params.out:q}"


rule train_test:
    """Errors on the held-out frames, and the previous committee's on the new labels."""
    input:
        models=lambda wildcards: models_of(wildcards.cycle, DEPLOYED, wildcards.line),
        test=PATHS.test.labels,
        labels=lambda wildcards: labels_until(wildcards.cycle, wildcards.line),
        previous=lambda wildcards: (
            []
            if wildcards.cycle == "000"
            else models_of(previous(wildcards.cycle), DEPLOYED, wildcards.line)
        ),
        calibration=lambda wildcards: (
            []
            if wildcards.cycle == "000"
            else PATHS.line(line_before(wildcards))
            .cycle(previous(wildcards.cycle))
            .train.calibration
        ),
    output:
        errors=LINE.train.errors,
        calibration=LINE.train.calibration,
        pairs=LINE.train.pairs,
        parity=LINE.train.parity,
    log:
        f"{LOGS}/{{line}}/{{cycle}}/train/test.log",
    resources:
        **SITE.resources("train"),
        mem_mb=memory("train", 4000),
        runtime=minutes("train", 60),
    params:
        models=repeated("--model", "models"),
        labels=repeated("--train-labels", "labels"),
        new=lambda wildcards, input: (
            ["--new", input.labels[-1]] if wildcards.cycle != "000" else []
        ),
        previous=repeated("--previous", "previous"),
        calibration=lambda wildcards, input: (
            ["--calibration", input.calibration] if input.get("calibration") else []
        ),
    shell:
        "mlpwf --log {log:q} train test {params.models:q} --test {input.test:q} {params.new:q} {params.previous:q}"
        " {params.calibration:q} {params.labels:q} --out {output.errors:q}"


rule train_longer:
    """Train the last committee's first model for train.steps_final more steps."""
    input:
        labels=lambda wildcards: training_labels(final_cycle(wildcards)),
        config=PATHS.config("train"),
        site=ancient(PATHS.config("site")),
        start=lambda wildcards: models_of(final_cycle(wildcards), RECORD)[0],
        molecules=PATHS.build.molecules if ENGINE.of_molecules else [],
    output:
        model=update(PATHS.longer / ORIGINAL),
        deployed=update(PATHS.longer / DEPLOYED),
        check=update(PATHS.longer / RECORD),
        lcurve=update(PATHS.longer / ENGINE.curve),
    log:
        f"{LOGS}/train/longer.log",
    threads: cores("train", SITE.train_threads)
    resources:
        **SITE.resources("train"),
        mem_mb=memory("train", 4000),
        runtime=minutes("train", 1440),
    params:
        out=str(PATHS.longer),
        labels=repeated("--labels", "labels"),
        start=lambda wildcards, input: str(Path(str(input.start)).parent),
        molecules=repeated("--molecules", "molecules"),
    shell:
        "mlpwf --log {log:q} train model --final --config {input.config:q} --site {input.site:q} {params.labels:q}"
        " --index 0 --start {params.start:q} {params.molecules:q} --threads {threads} --out {params.out:q}"


rule train_final:
    """Name the model the campaign ends with; as it was trained it lies beside it."""
    input:
        status=lambda wildcards: PATHS.cycle(final_cycle(wildcards)).select.status,
        # the original comes from the same job; as an input it would make campaigns without it end anew
        model=lambda wildcards: (
            PATHS.longer / DEPLOYED
            if CAMPAIGN.train.steps_final
            else models_of(final_cycle(wildcards), DEPLOYED)[0]
        ),
    output:
        model=PATHS.final / ORIGINAL,
        deployed=PATHS.final / DEPLOYED,
        final=PATHS.final.record,
    log:
        f"{LOGS}/train/final.log",
    resources:
        **SITE.resources("train"),
        mem_mb=memory("train", 2000),
        runtime=minutes("train", 30),
    params:
        out=str(PATHS.final),
    shell:
        "mlpwf --log {log:q} train final --status {input.status:q} --model {input.model:q} --out {params.out:q}"
