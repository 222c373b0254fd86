"""What an attack does: probes of its path, spectra, curvature, and measures of pictures."""
