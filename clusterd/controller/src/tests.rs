//! Scripts of single properties, and random runs of two controllers, two replicas and an ENV that may all lag behind each other.

mod random;
mod scripts;
