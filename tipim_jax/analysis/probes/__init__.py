"""Watching an attack move: pure observations of each step, chosen one by one and stacked by the scan.

A probe maps a `Step` of one image to a dictionary of quantities; `record` joins probes to what
`attack.run(record=...)` takes. What no probe asks for is not computed, and nothing a probe does flows back.
Probes that compare with the step before need the updates wrapped in `watched`.

| probe            | passes per recorded step                           | bytes per image and recorded step |
|------------------|----------------------------------------------------|-----------------------------------|
| `identity`       | none                                               | 20 + 8 T                          |
| `movement`       | none; the state grows by two images                | 40                                |
| `frequency`      | none                                               | 8 (S/2 + 1)                       |
| `face_regions`   | none                                               | 32                                |
| `similarity`     | K F                                                | 4 K (1 + T)                       |
| `gram`           | 1 F + (T + 1) P                                    | 4 T² + 4 T + 8                    |
| `agreement`      | 2 K F + K P                                        | 8 K² + 8 K                        |
| `smoothness`     | 2 F + 2 P                                          | 12                                |
| `hessian`        | (m + 1) Hessian products, each about 2 F + 2 P     | 8 k + 4                           |
| `jacobian`       | (i + 1) k products J v and i k of Jᵀ u, 1 F        | 4 k + 8                           |

F: forward pass, P: pull-back; T targets, K witnesses, S the image's side; 4 bytes a number in single
precision. `sizes` gives the exact figures of any choice. Nothing is batched over quantities: the memory
while a probe runs is that of its passes.
"""

from tipim_jax.analysis.probes.curvature import hessian, jacobian, smoothness
from tipim_jax.analysis.probes.path import identity, movement, watched
from tipim_jax.analysis.probes.probe import Probe, axes, every, record, sizes, steps, thinned
from tipim_jax.analysis.probes.recognisers import agreement, gram, similarity, witness_sources
from tipim_jax.analysis.probes.spectral import face_regions, frequency

__all__ = [
    "Probe",
    "agreement",
    "axes",
    "every",
    "face_regions",
    "frequency",
    "gram",
    "hessian",
    "identity",
    "jacobian",
    "movement",
    "record",
    "similarity",
    "sizes",
    "smoothness",
    "steps",
    "thinned",
    "watched",
    "witness_sources",
]
