//! Finding, executing and following programs.

use crate::support::{World, shell};
use mica_executor::{ExitStatus, RunSpec, SandboxError, UserSpec};
use std::os::unix::fs::PermissionsExt;

pub(crate) fn reports_codes_and_signals(world: &World) {
    let status = |script: &str| world.run(&shell(script), world.launch()).result.unwrap();
    assert_eq!(status("exit 3"), ExitStatus::Code(3));
    // PID 1 cannot end itself by a signal, so a child does; the shell reports it.
    assert_eq!(status("sh -c 'kill -9 $$'; exit $?"), ExitStatus::Code(137));
}

pub(crate) fn names_a_missing_program(world: &World) {
    let run = |program: &str| world.run(&RunSpec::new([program]), world.launch()).result.unwrap_err();
    let error = run("nope");
    assert_eq!(error.to_string(), "cannot execute `nope`: not found in PATH");
    assert!(matches!(error, SandboxError::Execute { code: 127, .. }));
    assert_eq!(run("/nope").to_string(), "cannot execute `/nope`: no such file or directory");
}

pub(crate) fn names_a_forbidden_program(world: &World) {
    let error = world.run(&RunSpec::new(["/etc/passwd"]), world.launch()).result.unwrap_err();
    assert_eq!(error.to_string(), "cannot execute `/etc/passwd`: permission denied");
    assert!(matches!(error, SandboxError::Execute { code: 126, .. }));
}

pub(crate) fn names_a_missing_interpreter(world: &World) {
    let layer = script(world, "#!/no/such/interpreter\n");
    let mut launch = world.launch();
    launch.lowers.insert(0, layer);
    let error = world.run(&RunSpec::new(["/script"]), launch).expect_error();
    assert!(error.contains("interpreter"), "{error}");
}

pub(crate) fn names_a_foreign_format(world: &World) {
    let layer = script(world, "neither a binary nor a script");
    let mut launch = world.launch();
    launch.lowers.insert(0, layer);
    let error = world.run(&RunSpec::new(["/script"]), launch).expect_error();
    assert!(error.contains("not in a format"), "{error}");
}

fn script(world: &World, content: &str) -> std::path::PathBuf {
    let layer = world.fresh("layer");
    std::fs::write(layer.join("script"), content).unwrap();
    std::fs::set_permissions(layer.join("script"), PermissionsExt::from_mode(0o755)).unwrap();
    layer
}

pub(crate) fn searches_the_path(world: &World) {
    let layer = script(world, "#!/bin/sh\necho mine\n");
    let mut launch = world.launch();
    launch.lowers.insert(0, layer);
    let env = vec![("PATH".to_owned(), "/nowhere:/:/bin".to_owned())];
    let spec = RunSpec { env, ..RunSpec::new(["script"]) };
    assert_eq!(world.run(&spec, launch).expect_success(), "mine\n");
}

pub(crate) fn passes_any_text(world: &World) {
    let text = "tab\t newline\n quote\" ünïcode \u{1}";
    let spec = RunSpec::new(["printf", "%s", text]);
    assert_eq!(world.run(&spec, world.launch()).expect_success(), text);
    let error = world.run(&RunSpec::new(["echo", "a\0b"]), world.launch()).expect_error();
    assert!(error.contains("zero byte"), "{error}");
}

pub(crate) fn gives_large_output(world: &World) {
    let ran = world.run(&shell("head -c 3000000 /dev/zero; head -c 70000 /dev/zero >&2"), world.launch());
    assert_eq!((ran.stdout.len(), ran.stderr.len()), (3_000_000, 70_000));
}

pub(crate) fn makes_a_missing_working_directory(world: &World) {
    let spec = RunSpec { cwd: "/new/dir".into(), ..shell("pwd; stat -c '%a %u' .") };
    let ran = world.run(&spec, world.launch());
    assert!(ran.upper.join("new/dir").is_dir());
    assert_eq!(ran.expect_success(), "/new/dir\n755 0\n");
}

pub(crate) fn enters_a_working_directory_only_root_may_see(world: &World) {
    let layer = world.fresh("layer");
    std::fs::create_dir(layer.join("private")).unwrap();
    std::fs::set_permissions(layer.join("private"), PermissionsExt::from_mode(0o700)).unwrap();
    let mut launch = world.launch();
    launch.lowers.insert(0, layer);
    let spec = RunSpec {
        cwd: "/private".into(),
        user: UserSpec("app".into()),
        ..RunSpec::new(["/bin/echo", "ran"])
    };
    assert_eq!(world.run(&spec, launch).expect_success(), "ran\n");
}
