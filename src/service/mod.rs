//! What may happen: one file per group of use cases; permission first, then effects.
