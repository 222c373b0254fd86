"""What this project is measured against: TIP-IM and the networks of `ports` in PyTorch (extra `parity`)."""
