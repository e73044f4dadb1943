#!/usr/bin/env bash
# Go on with the toluene campaign from what this folder keeps, and keep what is won:
#   benchmarks/toluene/go_on.sh [snakemake options]     for example --cores 1
#   benchmarks/toluene/go_on.sh keep                    only keep what results/toluene has come to
# It can be stopped at any time (Ctrl-C, kill); the same command goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=benchmarks/toluene system=benchmarks/toluene/toluene.yaml campaign=results/toluene
export PATH=$PWD/.venv/bin:$PATH

# Labels as the store's records; of the campaign all that its next cycle reads, with its times, which
# Snakemake goes by. Models (11 MB each), walkers, production runs and work in
# progress are left out; of the final model, once it is there, model.pb is kept, as it was trained, and what its
# liquid is like.
keep() {
    mlpwf label export --config $campaign/config/label.json --site $campaign/config/site.json --out $here/labels.jsonl.gz
    local last before
    last=$(find $campaign/cycle -path '*/train/errors.json' 2>/dev/null | sort | tail -n 1 | cut -d/ -f4)
    before=(--exclude="$campaign/simulate" --exclude='work' --exclude='*.work' --exclude='walker' --exclude='.*' --exclude='pairs.csv' --exclude='*.pb')
    for cycle in $campaign/cycle/*; do
        [ -n "$last" ] && [[ ${cycle##*/} < $last ]] && before+=(--exclude="$cycle/explore")
    done
    tar -c --sort=name --owner=0 --group=0 --numeric-owner "${before[@]}" $campaign 2>/dev/null | xz -9 >$here/.campaign.tar.xz
    mv $here/.campaign.tar.xz $here/campaign.tar.xz
    python $here/tables.py $campaign $here
    [ ! -f $campaign/train/final/compressed.pb ] || cp $campaign/train/final/model.pb $here/model.pb
    [ ! -f $campaign/validate/liquid.json ] || python $here/liquid.py $campaign $here docs/toluene.png
}

# On a fresh clone: the final model, compressed again (no two compressions are alike in their bytes), as old as it was.
restore() {
    local final=$campaign/train/final
    [ -f $final/final.json ] && [ ! -f $final/model.pb ] && [ -f $here/model.pb ] || return 0
    cp $here/model.pb $final/model.pb
    dp compress -i $final/model.pb -o $final/compressed.pb
    python - $final <<'END'
import os, sys
from pathlib import Path
from mlpwf.files import read_json, sha256, write_json
record, *models = (Path(sys.argv[1]) / name for name in ("final.json", "model.pb", "compressed.pb"))
made = record.stat().st_mtime_ns
write_json(record, read_json(record) | {"sha256": {path.name: sha256(path) for path in models}})
for path in (record, *models):
    os.utime(path, ns=(made, made))
END
}

if [ "${1:-}" = keep ]; then
    keep
    exit
fi
./start setup
[ -d $campaign ] || tar -xJf $here/campaign.tar.xz
restore
mlpwf config $system
mlpwf label import $here/labels.jsonl.gz --config $campaign/config/label.json --site $campaign/config/site.json
trap keep EXIT
./start run $system "$@"
