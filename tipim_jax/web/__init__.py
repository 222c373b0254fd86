"""The local web page of `tipim serve`: photos are dropped on it, protected by the library, and downloaded."""
