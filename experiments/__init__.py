"""Launches for researchers; they need the extra `experiments`."""

from importlib.util import find_spec

from tipim_jax.errors import UserError

for _package in ("matplotlib", "tabulate", "xarray"):
    if find_spec(_package) is None:
        raise UserError(f'launches need {_package}; run `pip install "tipim-jax[experiments]"`')
