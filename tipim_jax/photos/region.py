"""Where on an aligned face a mask may be: inside the outline and the hair line, less on eyes, brows and mouth.

The outline is an ellipse through what five landmarks tell of the head: its tilt from the line between eyes and
mouth, and how far it is turned away from how far the nose is off that line.
"""

import numpy as np

from tipim_jax.core.geometry import CANVAS_LANDMARKS, CANVAS_SIZE

# In units of the distance from the eyes to the mouth of a frontal face, 41 pixels of the canvas. The
# ellipse ends inside the jaw and below the hair line of most faces: outside, a mask is a halo.
_CENTRE = 0.35  # below the middle of the eyes
_ACROSS, _DOWN = 1.06, 1.36  # half axes
_EDGE = 0.22  # width of the soft edge
# Share of the budget where people look first: a change of eyes, lips or teeth is a change of the face.
_EYES = (0.4, 0.32, 0.22)  # share, half width, half height
_MOUTH = (0.4, 0.47, 0.22)
_EYES_UP = 0.05  # the share is centred between eye and brow

_FRONTAL = float(
    np.linalg.norm(CANVAS_LANDMARKS[3:].mean(axis=0) - CANVAS_LANDMARKS[:2].mean(axis=0))
)


def face_region(landmarks: np.ndarray, size: int = CANVAS_SIZE) -> np.ndarray:
    """The share of the budget at every pixel of a face's canvas.

    Args:
      landmarks: [5,2] (x, y) of the face on its canvas: eyes, nose, mouth corners, image-left first.
      size: of the canvas.

    Returns:
      [size,size,1] float32, 0 outside the face to 1.
    """
    landmarks = np.asarray(landmarks, np.float64)
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    down = mouth - eyes
    # A head that nods shows a shorter face; the canvas is scaled by all landmarks, so trust both by half.
    unit = (np.linalg.norm(down) + _FRONTAL) / 2
    down = down / max(np.linalg.norm(down), 1e-6)
    across = np.array([down[1], -down[0]])
    turned = _turn(landmarks, eyes, across)

    y, x = np.mgrid[:size, :size]
    points = np.stack([x, y], axis=-1)
    from_centre = (points - eyes - _CENTRE * unit * down) / unit
    a, b = from_centre @ across, from_centre @ down
    # The side that a head turns towards ends sooner; of the other more is seen, up to the ear.
    half = _ACROSS * np.where(a * turned > 0, 1 - 0.5 * abs(turned), 1 + 0.1 * abs(turned))
    inside = (1 - np.sqrt((a / half) ** 2 + (b / _DOWN) ** 2)) * np.minimum(half, _DOWN)
    ramp = np.clip(inside / _EDGE + 0.5, 0, 1)
    share = ramp**2 * (3 - 2 * ramp)
    for centre, feature in (
        (landmarks[0] - _EYES_UP * unit * down, _EYES),
        (landmarks[1] - _EYES_UP * unit * down, _EYES),
        (mouth, _MOUTH),
    ):
        least, width, height = feature
        offset = (points - centre) / unit
        distance = (offset @ across / width) ** 2 + (offset @ down / height) ** 2
        share = share * (1 - (1 - least) * np.exp(-(distance**2)))
    return share[..., None].astype(np.float32)


def _turn(landmarks: np.ndarray, eyes: np.ndarray, across: np.ndarray) -> float:
    """How far a head is turned to the side: 0 frontal, ±1 where the nose is over an eye."""
    half = abs((landmarks[1] - landmarks[0]) @ across) / 2
    return float(np.clip((landmarks[2] - eyes) @ across / max(half, 1e-6), -1, 1))
