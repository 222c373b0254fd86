"""The host side: photo files in, protected photo files and a proof out."""
