"""What was measured on a face, in words that need no explanation."""

import math
from collections.abc import Sequence

from tipim_jax.photos.results import FaceResult

# How visible a change is, on the scale of SSIMULACRA2 (90: no difference seen, 70: high quality, 50: medium),
# estimated from the PSNR and the width of a face; what it was fitted to is in docs/web.md.
HARDLY, SLIGHTLY = 75.0, 50.0
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def hidden_from(face: FaceResult) -> str:
    """From how many recognisers a face is hidden, and which still match it; of a clip, in how many frames."""
    still = [name for name, match in face.matches.items() if not match.protected]
    said = hidden(len(face.matches), still)
    if face.over_time is None or not face.matches:
        return said
    seen = face.over_time
    said = f"{seen.first:.1f}–{seen.last:.1f} s: {said}"
    if not still:
        return f"{said} in all {seen.judged} frames looked at"
    return f"{said} in some frames; hidden from all in {seen.hidden} of {seen.judged} looked at"


def level(face: FaceResult) -> str:
    """Whether "all", "some" or "none" of the recognisers know a face no more."""
    known = [not match.protected for match in face.matches.values()]
    return "all" if not any(known) else "none" if all(known) else "some"


def hidden(count: int, still: Sequence[str]) -> str:
    """From how many of `count` recognisers somebody is hidden, and which, `still`, match."""
    if not count:
        return "No recogniser was asked"
    if not still:
        return f"Hidden from all {count} recognisers" if count > 1 else "Hidden from the recogniser"
    if len(still) == count:
        return f"Still matched by all {count} recognisers" if count > 1 else "Still matched"
    named = joined(still) if len(still) < 4 else f"the other {_number(len(still))}"
    verb = "matches" if len(still) == 1 else "match"
    return f"Hidden from {count - len(still)} of {count} recognisers; {named} still {verb}"


def visibility(psnr: float, width: float) -> str:
    """How visible a change is at 100 %, in one of three words.

    Args:
      psnr: of the face, before and after, dB.
      width: of the face, pixels; the same change is seen better the larger the face.
    """
    score = 107 + 4.3 * psnr - 27.1 * math.log2(max(1.0, width))
    return "hardly" if score >= HARDLY else "slightly" if score >= SLIGHTLY else "clearly"


def joined(names: Sequence[str]) -> str:
    """Names in a sentence: "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _number(count: int) -> str:
    return _WORDS[count] if count < len(_WORDS) else str(count)
