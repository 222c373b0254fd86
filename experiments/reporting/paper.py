"""The published figures that ours stand beside: Yang et al., ICCV 2021, in percent; * is a white box.

`published.json` has them, and says of each table what it is of.
"""

import json
from pathlib import Path
from typing import Any

_TABLES: dict[str, Any] = json.loads(
    Path(__file__).with_name("published.json").read_text(encoding="utf-8")
)
_FIGURES = {name: table["figures"] for name, table in _TABLES.items()}
TABLE_3, TABLE_4, TABLE_5, TABLE_6, TABLE_8 = (_FIGURES[f"TABLE_{n}"] for n in (3, 4, 5, 6, 8))
TABLE_7 = "StyleGAN faces as targets: Rank-1-UT 49.6 to 95.0 over the recognisers."
SEARCH_API = (
    "Commercial search API: 20 probes, all found at rank 1 before; after protection a target is at rank "
    "1 for 6 of them and within rank 5 for 16."
)
THRESHOLDS, VERIFICATION = _FIGURES["THRESHOLDS"], _FIGURES["VERIFICATION"]
IDENTIFICATION_ROWS = _FIGURES["IDENTIFICATION_ROWS"]
VERIFICATION_ROWS = _FIGURES["VERIFICATION_ROWS"]
RECALLED = "(?): recalled, not seen at its source."
