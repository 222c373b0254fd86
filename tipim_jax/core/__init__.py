"""The attack: pure functions on one image and what they are composed of. Needs arrays and gradients only."""
