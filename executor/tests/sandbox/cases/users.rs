//! Who a step runs as.

use crate::support::{World, shell};
use mica_executor::{IdMode, RunSpec, UserSpec};

fn as_user(user: &str, script: &str) -> RunSpec {
    RunSpec { user: UserSpec(user.into()), ..shell(script) }
}

fn only_root(world: &World) -> bool {
    world.mode == IdMode::Single
}

pub(crate) fn runs_as_named_user(world: &World) {
    let ran = world.run(&as_user("app", "id -u; id -g; id -G; echo $HOME"), world.launch()).expect_success();
    if only_root(world) {
        assert!(ran.starts_with("0\n0\n") && ran.ends_with("/home/app\n"), "{ran}");
    } else {
        assert_eq!(ran, "1000\n1001\n1001 50\n/home/app\n");
    }
}

pub(crate) fn runs_as_number(world: &World) {
    if only_root(world) {
        return;
    }
    let ran = world
        .run(&as_user("4242:77", "id -u; id -G; grep CapEff /proc/self/status; touch /x"), world.launch());
    assert!(ran.stdout.starts_with("4242\n77\nCapEff:\t0000000000000000"), "{}", ran.stdout);
    assert!(ran.stderr.contains("Permission denied"), "{}", ran.stderr);
}

pub(crate) fn refuses_an_unknown_user(world: &World) {
    let error = world.run(&as_user("ghost", "true"), world.launch()).expect_error();
    let expect = "cannot start the step: find the user `ghost`: no entry `ghost` in /etc/passwd of the image";
    assert_eq!(error.replace("cannot find", "find"), expect);
}

pub(crate) fn hands_output_to_its_user(world: &World) {
    let ran = world.run(&as_user("app", "echo again > /dev/stdout; echo err > /dev/stderr"), world.launch());
    assert_eq!(ran.stderr, "err\n");
    assert_eq!(ran.expect_success(), "again\n");
}

pub(crate) fn reads_no_pipe_as_passwd(world: &World) {
    let layer = world.fresh("layer");
    std::fs::create_dir(layer.join("etc")).unwrap();
    let path = std::ffi::CString::new(layer.join("etc/passwd").display().to_string()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(path.to_str().unwrap()).status().unwrap().success());
    assert_eq!(world.sh_over(layer, "echo $HOME").expect_success(), "/\n");
}

pub(crate) fn sets_file_capabilities(world: &World) {
    // The value of `cap_net_raw=ep` for a file.
    let layer = world.fresh("layer");
    std::fs::write(layer.join("f"), "x").unwrap();
    let ran =
        world.sh_over(layer, "cp /bin/busybox /b && (setcap cap_net_raw+ep /b 2>&1; true)").expect_success();
    assert!(!ran.contains("not permitted"), "{ran}");
}

pub(crate) fn changes_owners(world: &World) {
    let printed = world.sh("touch /f && chown 33:44 /f && stat -c %u:%g /f");
    // With a single id the change is only pretended.
    assert_eq!(printed, if only_root(world) { "0:0\n" } else { "33:44\n" });
}
