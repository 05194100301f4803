//! Programs that run outside the user namespace.

use std::os::unix::fs::MetadataExt;

use crate::support::World;
use mica_executor::{IdMode, OutsideCommand};

pub(crate) fn programs_see_who_started_us(world: &World) {
    let script = "id -u; cat /proc/self/uid_map; cat";
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    let command = OutsideCommand { argv, stdin: b"input".to_vec(), ..OutsideCommand::default() };
    let output = world.outside.run(&command, None).unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = printed.split_whitespace().collect();
    assert_eq!(words[1..], ["0", "0", "4294967295", "input"]);
    // Inside we are root; the program is whoever owns our own files.
    let inside = std::fs::metadata("/proc/self").unwrap().uid();
    assert_eq!(inside, 0);
    assert_eq!(words[0] == "0", world.mode == IdMode::Root);
}
