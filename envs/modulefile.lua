-- An example: adapt the two paths, put it on MODULEPATH as mlpwf/0.1.0.lua
help([[mlpwf: active learning of first-principles neural-network potentials]])
local root = "/shared/software/mlpwf"
prepend_path("PATH", pathJoin(root, ".venv/bin"))
setenv("OMP_NUM_THREADS", "1")
depends_on("quantum-espresso")
