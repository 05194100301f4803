//! Limits.

use crate::support::{World, shell};
use mica_executor::{Resources, RunSpec, SandboxError, Ulimit};

pub(crate) fn limits_are_applied_or_refused(world: &World) {
    let resources = Resources { memory: Some(64 << 20), ..Resources::default() };
    // A tenth of a gigabyte in one variable.
    let spec = RunSpec { resources, ..shell("x=$(head -c 100000000 /dev/zero | tr '\\0' a); echo ${#x}") };
    let ran = world.run(&spec, world.launch());
    match &ran.result {
        Err(SandboxError::Limits(error)) => {
            assert!(error.to_string().contains("memory"), "{error}");
            eprintln!("SKIPPED a case: {error}");
        }
        Ok(status) => assert!(!status.success(), "the limit did not hold: {}", ran.stdout),
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn process_limits(world: &World) {
    let limit = |name: &str, soft, hard| Ulimit { name: name.into(), soft: Some(soft), hard: Some(hard) };
    let spec = RunSpec { ulimits: vec![limit("nofile", 100, 200)], ..shell("ulimit -Sn; ulimit -Hn") };
    assert_eq!(world.run(&spec, world.launch()).expect_success(), "100\n200\n");
    let spec = RunSpec { ulimits: vec![limit("nonsense", 1, 1)], ..shell("true") };
    let error = world.run(&spec, world.launch()).expect_error();
    assert!(error.contains("`nonsense`"), "{error}");
}
