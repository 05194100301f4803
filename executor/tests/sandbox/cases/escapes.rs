//! Ways out that others have had to close.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::{World, shell, tree};
use mica_executor::{IdMode, MountKind, MountSpec, RunSpec, Source};

pub(crate) fn working_directory_through_a_descriptor(world: &World) {
    for number in 3..12 {
        let spec = RunSpec { cwd: format!("/proc/self/fd/{number}"), ..shell("pwd; ls ..") };
        let ran = world.run(&spec, world.launch());
        assert!(ran.result.is_err(), "{number}: {}", ran.stdout);
    }
}

pub(crate) fn working_directory_through_links(world: &World) {
    let layer = world.fresh("layer");
    symlink("../../../../../../tmp", layer.join("up")).unwrap();
    let mut launch = world.launch();
    launch.lowers.insert(0, layer);
    let spec = RunSpec { cwd: "/up/../../..".into(), ..shell("pwd") };
    assert_eq!(world.run(&spec, launch).expect_success(), "/\n");
}

pub(crate) fn symlinked_kernel_directories(world: &World) {
    let layer = world.fresh("layer");
    for name in ["real", "real/etc", "real/proc", "real/dev"] {
        std::fs::create_dir(layer.join(name)).unwrap();
    }
    for name in ["etc", "proc", "dev"] {
        symlink(format!("../../../real/{name}"), layer.join(name)).unwrap();
    }
    std::fs::write(layer.join("real/etc/passwd"), "root:x:0:0::/linked:/bin/sh\n").unwrap();
    let ran = world.sh_over(layer, "echo $HOME; ls /proc/1/fd > /dev/null && cat /real/etc/hosts | head -1");
    let upper = ran.upper.clone();
    assert!(ran.expect_success().starts_with("/linked\n127.0.0.1"));
    let left: Vec<String> =
        tree(&upper).into_iter().filter(|path| !matches!(path.as_str(), "real" | "real/etc")).collect();
    assert_eq!(left, Vec::<String>::new());
}

pub(crate) fn dangling_resolv_conf(world: &World) {
    let layer = world.fresh("layer");
    std::fs::create_dir(layer.join("etc")).unwrap();
    symlink("../run/systemd/resolve/stub-resolv.conf", layer.join("etc/resolv.conf")).unwrap();
    let ran = world.sh_over(layer, "test -e /etc/resolv.conf && readlink /etc/resolv.conf");
    assert_eq!(tree(&ran.upper), Vec::<String>::new());
    assert_eq!(ran.expect_success(), "../run/systemd/resolve/stub-resolv.conf\n");
}

pub(crate) fn replaced_hosts_file(world: &World) {
    // The parent of a mount point cannot be taken away below it, and links put elsewhere are not followed.
    let layer = world.fresh("layer");
    symlink("missing/etc", layer.join("etc")).unwrap();
    let outside = world.fresh("outside");
    std::fs::write(outside.join("hosts"), "").unwrap();
    let script = format!("mv /missing /elsewhere 2>/dev/null; ln -s {} /missing; true", outside.display());
    let ran = world.sh_over(layer, &script);
    ran.expect_success();
    assert!(outside.join("hosts").exists());
}

pub(crate) fn interpreter_is_ourselves(world: &World) {
    let layer = world.fresh("layer");
    std::fs::write(layer.join("evil"), "#!/proc/self/exe\n").unwrap();
    std::fs::set_permissions(layer.join("evil"), PermissionsExt::from_mode(0o755)).unwrap();
    let before = std::fs::metadata("/proc/self/exe").unwrap().len();
    let mut launch = world.launch();
    launch.lowers.insert(0, layer);
    let ran = world.run(&RunSpec::new(["/evil"]), launch);
    // Our own binary, outside the init stage and without its descriptors, runs as an ordinary program in there.
    drop(ran);
    assert_eq!(std::fs::metadata("/proc/self/exe").unwrap().len(), before);
    let script = "cat /proc/1/cmdline | tr '\\0' ' '; ls -l /proc/1/exe | grep -c busybox";
    assert!(world.sh(script).ends_with("1\n"));
}

pub(crate) fn mount_targets_through_links(world: &World) {
    let layer = world.fresh("layer");
    symlink("../../../../inside/real", layer.join("link")).unwrap();
    let source = world.fresh("source");
    std::fs::write(source.join("f"), "content").unwrap();
    let mut launch = world.launch();
    launch.lowers.insert(0, layer);
    launch.sources.insert("s".into(), Source::Path(source));
    let kind = MountKind::Bind { source: "s".into(), subpath: String::new(), readonly: true };
    let mounts = vec![MountSpec { target: "/link".into(), kind }];
    let ran = world.run(&RunSpec { mounts, ..shell("cat /inside/real/f") }, launch);
    assert_eq!(tree(&ran.upper), Vec::<String>::new());
    assert_eq!(ran.expect_success(), "content");
}

pub(crate) fn sources_cannot_leave(world: &World) {
    let secret = world.fresh("secret");
    std::fs::write(secret.join("f"), "host").unwrap();
    let source = world.fresh("source");
    symlink(&secret, source.join("abs")).unwrap();
    symlink(format!("../{}", secret.file_name().unwrap().to_str().unwrap()), source.join("rel")).unwrap();
    for subpath in ["abs", "rel", "../", "rel/f", "abs/../f"] {
        let mut launch = world.launch();
        launch.sources.insert("s".into(), Source::Path(source.clone()));
        let kind = MountKind::Bind { source: "s".into(), subpath: subpath.into(), readonly: true };
        let mounts = vec![MountSpec { target: "/m".into(), kind }];
        let ran = world.run(&RunSpec { mounts, ..shell("cat /m/f /m 2>/dev/null; true") }, launch);
        assert!(!ran.stdout.contains("host"), "{subpath}");
    }
}

pub(crate) fn created_mount_points_leave_no_trace(world: &World) {
    use std::os::unix::fs::MetadataExt;
    // A layer that hides the skeleton's directory, so that the mount point must be made in the upper directory.
    let layer = world.fresh("layer");
    std::fs::create_dir(layer.join("etc")).unwrap();
    let opaque = if world.mode == IdMode::Root { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
    rustix::fs::setxattr(layer.join("etc"), opaque, b"y", rustix::fs::XattrFlags::empty()).unwrap();
    let ran = world.sh_over(layer.clone(), "ls /etc | tr '\\n' ' '");
    let upper = ran.upper.clone();
    assert_eq!(ran.expect_success(), "hosts resolv.conf ");
    assert_eq!(tree(&upper), ["etc"]);
    let time =
        |path: std::path::PathBuf| (path.metadata().unwrap().mtime(), path.metadata().unwrap().mtime_nsec());
    assert_eq!(time(upper.join("etc")), time(layer.join("etc")));
}

pub(crate) fn device_nodes_made_in_a_step_cannot_be_opened(world: &World) {
    let source = world.fresh("source");
    let mut launch = world.launch();
    launch.sources.insert("s".into(), Source::Path(source));
    let bind = MountKind::Bind { source: "s".into(), subpath: String::new(), readonly: false };
    let mounts = vec![
        MountSpec { target: "/bind".into(), kind: bind },
        MountSpec { target: "/tmpfs".into(), kind: MountKind::Tmpfs { size: None } },
    ];
    // The same numbers as /dev/zero, which may be opened where it is meant to be.
    let script = "for d in / /tmp /dev /dev/shm /bind /tmpfs; do mknod $d/z c 1 5 2>/dev/null; \
        head -c1 $d/z > /dev/null 2>&1 && echo opened $d/z; done; head -c1 /dev/zero | wc -c | tr -d ' '";
    assert_eq!(world.run(&RunSpec { mounts, ..shell(script) }, launch).expect_success(), "1\n");
    let made = world.sh("mknod /made c 1 5 2>/dev/null; test -c /made && echo made; true");
    assert_eq!(made, if world.mode == IdMode::Root { "made\n" } else { "" });
}

pub(crate) fn nothing_is_mounted_over_proc(world: &World) {
    let layer = world.fresh("layer");
    symlink("/proc/1", layer.join("link")).unwrap();
    for target in ["/proc", "/proc/self", "/proc/sys/kernel", "/link", "/link/attr"] {
        let mut launch = world.launch();
        launch.lowers.insert(0, layer.clone());
        let mounts = vec![MountSpec { target: target.into(), kind: MountKind::Tmpfs { size: None } }];
        let error = world.run(&RunSpec { mounts, ..shell("true") }, launch).expect_error();
        assert!(error.contains("nothing can be mounted inside /proc"), "{target}: {error}");
    }
}
