"""tipim_jax: adversarial identity masks that keep photos out of face recognition, in JAX."""
