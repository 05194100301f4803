//! Layers as a whole.
