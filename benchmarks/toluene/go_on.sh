#!/usr/bin/env bash
# Go on with the toluene campaign from what this folder keeps, and keep what is won:
#   benchmarks/toluene/go_on.sh [snakemake options]     for example --cores 1
#   benchmarks/toluene/go_on.sh keep                    only keep what results/toluene has come to
# It can be stopped at any time (Ctrl-C, kill); the same command goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=benchmarks/toluene system=config/systems/toluene.yaml campaign=results/toluene
export PATH=$PWD/.venv/bin:$PATH

# Labels as the store's records; of the campaign all that its next cycle reads, with its times, which
# Snakemake goes by. Models (11 MB each), walkers, production runs and work in
# progress are left out; of the final model, once it is there, the part that is not compressed is kept, and what its
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
    [ ! -f $campaign/train/final/model.pb ] || cp $campaign/cycle/$last/train/model/0/model.pb $here/model.pb
    [ ! -f $campaign/validate/liquid.json ] || python $here/liquid.py $campaign $here docs/toluene.png
}

# On a fresh clone: the final model, compressed again (no two compressions are alike in their bytes), as old as it was.
restore() {
    local final=$campaign/train/final
    [ -f $final/final.json ] && [ ! -f $final/model.pb ] && [ -f $here/model.pb ] || return 0
    dp compress -i $here/model.pb -o $final/model.pb
    cp -p $final/final.json $final/.time
    sed -i "s/\"sha256\": \".*\"/\"sha256\": \"$(sha256sum $final/model.pb | cut -d' ' -f1)\"/" $final/final.json
    touch -r $final/.time $final/final.json $final/model.pb
    rm $final/.time
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
