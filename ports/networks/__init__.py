"""The networks, one module each: modules of Flax and the table that fills them."""
