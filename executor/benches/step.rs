//! How long a step of nothing takes: `cargo bench -p mica-executor --bench step [rounds]`.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "this is a measuring program")]

use std::path::Path;
use std::time::Instant;

use mica_executor::{
    Cancel, Entered, IdMapping, Launch, NetworkMode, RunSpec, Sandbox, SandboxOptions, Stdio,
    enter_user_namespace,
};

fn main() {
    mica_executor::init_stage_if_asked();
    let rounds = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(200);
    let Entered { mode, outside, .. } = enter_user_namespace(IdMapping::Auto).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("base");
    std::fs::create_dir_all(base.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", base.join("bin/true")).unwrap();
    let sandbox = Sandbox::new(SandboxOptions { ids: mode, outside }).unwrap();
    for network in [NetworkMode::None, NetworkMode::Host, NetworkMode::Private] {
        let rounds = if network == NetworkMode::Private { rounds / 10 } else { rounds };
        let spec = RunSpec { network, ..RunSpec::new(["/bin/true"]) };
        let mut times: Vec<f64> = Vec::new();
        for round in 0..rounds {
            let launch = launch(&base, &directory.path().join(format!("{network:?}{round}")));
            let started = Instant::now();
            match sandbox.run(&spec, launch, &mut |_, _| {}, &Cancel::new().unwrap()) {
                Ok(status) => assert!(status.success()),
                Err(error) => {
                    println!("{mode:?} {network:?}: {error}");
                    break;
                }
            }
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        if let [first, .., last] = times.as_slice() {
            let median = times[times.len() / 2];
            println!("{mode:?} {network:?}: median {median:.2} ms, {first:.2} to {last:.2}");
        }
    }
}

fn launch(base: &Path, step: &Path) -> Launch {
    let make = |name: &str| {
        let path = step.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    Launch {
        lowers: vec![base.to_path_buf()],
        upper: make("upper"),
        work: make("work"),
        skeleton: make("skeleton"),
        scratch: make("scratch"),
        sources: Default::default(),
        resolv_conf: Vec::new(),
        stdio: Stdio::Captured,
        grace: Launch::GRACE,
    }
}
