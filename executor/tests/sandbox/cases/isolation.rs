//! What a step sees of the world, and what it must not.

use crate::support::World;

pub fn says_hello(world: &World) {
    assert_eq!(world.sh("echo hello"), "hello\n");
}
