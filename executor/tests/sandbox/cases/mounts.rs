//! The mounts a step asks for.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::support::{Ran, World, shell, tree};
use mica_executor::{IdMode, Launch, MountKind, MountSpec, RunSpec, Source, Writes};

fn bind(source: &str, subpath: &str, readonly: bool) -> MountKind {
    MountKind::Bind { source: source.into(), subpath: subpath.into(), readonly }
}

fn mount(target: &str, kind: MountKind) -> MountSpec {
    MountSpec { target: target.into(), kind }
}

fn launch_with(world: &World, sources: &[(&str, &Path)]) -> Launch {
    let mut launch = world.launch();
    for (id, path) in sources {
        launch.sources.insert((*id).into(), Source::Path(path.to_path_buf()));
    }
    launch
}

fn run(world: &World, launch: Launch, mounts: Vec<MountSpec>, script: &str) -> Ran {
    world.run(&RunSpec { mounts, ..shell(script) }, launch)
}

fn source(world: &World) -> PathBuf {
    let source = world.fresh("source");
    std::fs::create_dir(source.join("sub")).unwrap();
    std::fs::write(source.join("f"), "file\n").unwrap();
    std::fs::write(source.join("sub/g"), "below\n").unwrap();
    source
}

pub(crate) fn upper_is_clean_of_mount_points(world: &World) {
    let source = source(world);
    let mounts = vec![
        mount("/a/new/place", bind("s", "", true)),
        mount("/a/file", bind("s", "f", true)),
        mount("/b", MountKind::Tmpfs { size: None }),
        mount("/dev/pipes/EOF", MountKind::File { content: "x".into(), mode: 0o755 }),
    ];
    let ran = run(
        world,
        launch_with(world, &[("s", &source)]),
        mounts,
        "cat /a/new/place/f /a/file; echo x > /b/x",
    );
    assert_eq!(tree(&ran.upper), Vec::<String>::new());
    assert_eq!(ran.expect_success(), "file\nfile\n");
}

pub(crate) fn bind_read_only_and_not(world: &World) {
    let source = source(world);
    let mounts = vec![mount("/ro", bind("s", "", true)), mount("/rw", bind("s", "/sub/", false))];
    let script = "echo x 2>/dev/null > /ro/n && echo wrote; echo y > /rw/n; cat /rw/g";
    let ran = run(world, launch_with(world, &[("s", &source)]), mounts, script);
    assert_eq!(ran.expect_success(), "below\n");
    assert_eq!(std::fs::read_to_string(source.join("sub/n")).unwrap(), "y\n");
    assert!(!source.join("n").exists());
}

pub(crate) fn bind_of_one_file(world: &World) {
    let source = source(world);
    let mounts = vec![mount("/etc/passwd", bind("s", "f", true)), mount("/deep/er", bind("t", "", true))];
    let launch = launch_with(world, &[("s", &source), ("t", &source.join("sub/g"))]);
    assert_eq!(run(world, launch, mounts, "cat /etc/passwd /deep/er").expect_success(), "file\nbelow\n");
}

fn overlay(writes: Writes, subpath: &str) -> MountKind {
    MountKind::Overlay { lowers: vec!["top".into(), "low".into()], subpath: subpath.into(), writes }
}

fn two_layers(world: &World) -> (PathBuf, PathBuf) {
    let (top, low) = (source(world), source(world));
    std::fs::write(top.join("sub/g"), "top\n").unwrap();
    std::fs::write(low.join("sub/only"), "low\n").unwrap();
    (top, low)
}

pub(crate) fn overlay_discards_writes(world: &World) {
    let (top, low) = two_layers(world);
    let launch = launch_with(world, &[("top", &top), ("low", &low)]);
    let script = "cat /m/g /m/only; rm /m/only; echo z > /m/z; ls /m | tr '\\n' ' '";
    let ran = run(world, launch, vec![mount("/m", overlay(Writes::Discarded, "sub"))], script);
    assert_eq!(tree(&ran.upper), Vec::<String>::new());
    assert_eq!(ran.expect_success(), "top\nlow\ng z ");
    assert!(low.join("sub/only").exists() && !top.join("sub/z").exists());
}

pub(crate) fn overlay_refuses_writes(world: &World) {
    let (top, low) = two_layers(world);
    let launch = launch_with(world, &[("top", &top), ("low", &low)]);
    let mounts = vec![mount("/m", overlay(Writes::Refused, "/"))];
    let ran =
        run(world, launch, mounts, "cat /m/sub/g /m/sub/only; echo z 2>/dev/null > /m/z || echo refused");
    assert_eq!(ran.expect_success(), "top\nlow\nrefused\n");
}

pub(crate) fn tmpfs_with_size(world: &World) {
    let mounts = vec![mount("/t", MountKind::Tmpfs { size: Some(64 << 10) })];
    let script = "stat -c %a /t; head -c 100000 /dev/zero 2>/dev/null > /t/big || echo full";
    assert_eq!(run(world, world.launch(), mounts, script).expect_success(), "1777\nfull\n");
}

pub(crate) fn secret_with_owner(world: &World) {
    let mut launch = world.launch();
    launch.sources.insert("tok".into(), Source::Content(b"s3cret\xff".to_vec()));
    let (uid, gid) = if world.mode == IdMode::Single { (0, 0) } else { (1000, 1001) };
    let kind = MountKind::Secret { source: "tok".into(), uid: 1000, gid: 1001, mode: 0o440 };
    let script = "wc -c < /run/secrets/tok | tr -d ' '; stat -c '%u:%g %a' /run/secrets/tok; \
        echo x 2>/dev/null > /run/secrets/tok || echo refused; grep -c 'secrets.*noexec' /proc/mounts; ls -a /dev | grep -c staging";
    let ran = run(world, launch, vec![mount("/run/secrets/tok", kind)], &format!("{script}; true"));
    assert_eq!(tree(&ran.upper), Vec::<String>::new());
    assert_eq!(ran.expect_success(), format!("7\n{uid}:{gid} 440\nrefused\n1\n0\n"));
}

pub(crate) fn script_in_memory(world: &World) {
    let kind = MountKind::File { content: "#!/bin/sh\necho from a file\n".into(), mode: 0o755 };
    let spec = RunSpec { mounts: vec![mount("/dev/pipes/EOF", kind)], ..RunSpec::new(["/dev/pipes/EOF"]) };
    assert_eq!(world.run(&spec, world.launch()).expect_success(), "from a file\n");
}

pub(crate) fn socket_is_shown(world: &World) {
    let directory = world.fresh("socket");
    let _listener = std::os::unix::net::UnixListener::bind(directory.join("s")).unwrap();
    let launch = launch_with(world, &[("agent", &directory.join("s"))]);
    let mounts = vec![mount("/run/buildkit/ssh_agent.0", MountKind::SshSocket { source: "agent".into() })];
    let ran = run(world, launch, mounts, "test -S /run/buildkit/ssh_agent.0 && echo socket");
    assert_eq!(ran.expect_success(), "socket\n");
}

pub(crate) fn nested_in_any_order(world: &World) {
    let source = source(world);
    let mounts =
        vec![mount("/m/sub/inner", MountKind::Tmpfs { size: None }), mount("/m", bind("s", "", false))];
    let ran = run(
        world,
        launch_with(world, &[("s", &source)]),
        mounts,
        "echo i > /m/sub/inner/i; ls /m/sub | tr '\\n' ' '",
    );
    assert_eq!(ran.expect_success(), "g inner ");
    assert!(!source.join("sub/inner/i").exists());
}

pub(crate) fn target_of_wrong_kind(world: &World) {
    let source = source(world);
    let launch = launch_with(world, &[("s", &source)]);
    let error = run(world, launch, vec![mount("/etc/passwd", bind("s", "", true))], "true").expect_error();
    let expect =
        "cannot start the step: cannot mount a directory at `/etc/passwd`: the image has a file there";
    assert_eq!(error, expect);
}

pub(crate) fn missing_source_is_named(world: &World) {
    let source = source(world);
    let launch = launch_with(world, &[("s", &source)]);
    let error = run(world, launch, vec![mount("/m", bind("s", "none", true))], "true").expect_error();
    assert!(error.contains("`none`") && error.contains("no such file"), "{error}");
    let error = run(world, world.launch(), vec![mount("/m", bind("s", "", true))], "true").expect_error();
    assert!(error.contains("nothing was given"), "{error}");
}

pub(crate) fn many_layers(world: &World) {
    let mut launch = world.launch();
    for number in 0..130 {
        let layer = world.fresh("layer");
        std::fs::write(layer.join(format!("f{number}")), "").unwrap();
        launch.lowers.insert(0, layer);
    }
    assert_eq!(world.run(&shell("ls -d /f* | wc -l | tr -d ' '"), launch).expect_success(), "130\n");
}

pub(crate) fn whiteouts_and_opaque(world: &World) {
    let ran = world
        .run(&shell("rm -r /home && mkdir /home && rm /etc/group && ln /etc/passwd /etc/p2"), world.launch());
    let upper = ran.upper.clone();
    ran.expect_success();
    let whiteout = upper.join("etc/group").symlink_metadata().unwrap();
    assert_eq!((whiteout.mode() & 0o170_000, whiteout.rdev()), (0o020_000, 0));
    assert_eq!(tree(&upper), ["etc", "etc/group", "etc/p2", "etc/passwd", "home"]);
    assert_eq!(upper.join("etc/p2").metadata().unwrap().nlink(), 2);
    assert_eq!(upper.join("home").metadata().unwrap().permissions().mode() & 0o777, 0o755);
}
