"""The commands of `tipim`, one module each: its options and what it prints."""

import argparse
from typing import TypeAlias

# What the modules add their commands to.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
