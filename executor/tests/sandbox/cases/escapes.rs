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

/// While steps are started, what they mount and where is exchanged for links to outside, over and over.
pub(crate) fn exchanged_mount_targets_and_sources(world: &World) {
    let secret = world.fresh("secret");
    std::fs::write(secret.join("f"), "host").unwrap();
    let source = world.fresh("source");
    let (here, away) = (source.join("sub"), source.join("link"));
    std::fs::create_dir(&here).unwrap();
    std::fs::write(here.join("f"), "fine").unwrap();
    symlink(&secret, &away).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    &here,
                    rustix::fs::CWD,
                    &away,
                    rustix::fs::RenameFlags::EXCHANGE,
                )
                .unwrap();
            }
        });
        for _ in 0..40 {
            let mut launch = world.launch();
            launch.sources.insert("s".into(), Source::Path(source.clone()));
            launch.sources.insert("own".into(), Source::Path(world.fresh("own")));
            let bind = |target: &str, source: &str, subpath: &str| MountSpec {
                target: target.into(),
                kind: MountKind::Bind { source: source.into(), subpath: subpath.into(), readonly: false },
            };
            // One source that is exchanged, and one target that is exchanged below another mount.
            let mounts = vec![bind("/a", "s", "sub"), bind("/cache", "s", ""), bind("/cache/sub", "own", "")];
            let ran =
                world.run(&RunSpec { mounts, ..shell("cat /a/f; echo written > /cache/sub/w") }, launch);
            assert!(!ran.stdout.contains("host"), "{}", ran.stdout);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(tree(&secret), ["f"]);
    assert_eq!(std::fs::read_to_string(secret.join("f")).unwrap(), "host");
}

pub(crate) fn links_left_in_a_cache(world: &World) {
    let (cache, secret) = (world.fresh("cache"), world.fresh("secret"));
    std::fs::write(secret.join("f"), "host").unwrap();
    let with_cache = |target: &str, subpath: &str, script: &str| {
        let mut launch = world.launch();
        launch.sources.insert("c".into(), Source::Path(cache.clone()));
        let kind = MountKind::Bind { source: "c".into(), subpath: subpath.into(), readonly: false };
        world.run(
            &RunSpec { mounts: vec![MountSpec { target: target.into(), kind }], ..shell(script) },
            launch,
        )
    };
    let poison = format!("ln -s {} /c/absolute; ln -s ../../../.. /c/up; ln -s / /c/root", secret.display());
    with_cache("/c", "", &poison).expect_success();
    for subpath in ["absolute", "up", "root", "up/tmp", "absolute/f"] {
        let ran = with_cache("/m", subpath, "cat /m/f /m; touch /m/made /m/f");
        assert!(!ran.stdout.contains("host"), "{subpath}: {}", ran.stdout);
    }
    assert_eq!(tree(&secret), ["f"]);
}

/// An image may bring files where masks and devices go; none of them is what a mask is made of or put upon.
pub(crate) fn kernel_files_brought_by_the_image(world: &World) {
    let layer = world.fresh("layer");
    for name in ["dev/pts", "proc/sys/kernel", "sys/firmware", "proc/self/attr"] {
        std::fs::create_dir_all(layer.join(name)).unwrap();
    }
    for (name, target) in [
        ("dev/null", "/proc/sys/kernel/core_pattern"),
        ("dev/console", "/proc/sysrq-trigger"),
        ("dev/tty", "/proc/kcore"),
    ] {
        symlink(target, layer.join(name)).unwrap();
    }
    std::fs::write(layer.join("proc/self/attr/exec"), "mine").unwrap();
    let script = "stat -c %F /dev/null; head -c 9 /proc/keys; echo x > /dev/null; \
        echo '|/evil' 2>/dev/null > /proc/sys/kernel/core_pattern || echo refused; stat -f -c %T /proc";
    let ran = world.sh_over(layer, script);
    assert_eq!(ran.expect_success(), "character special file\nrefused\nproc\n");
}

pub(crate) fn mounts_over_kernel_files(world: &World) {
    for target in
        ["/proc", "/proc/sys", "/proc/keys", "/sys", "/sys/firmware", "/dev", "/dev/null", "/proc/self/fd"]
    {
        let mounts = vec![MountSpec { target: target.into(), kind: MountKind::Tmpfs { size: None } }];
        let script = "head -c 9 /proc/kcore; cat /proc/keys; \
            echo x 2>/dev/null > /proc/sysrq-trigger && [ ! -f /proc/sysrq-trigger ] && echo wrote; \
            echo x 2>/dev/null > /sys/kernel/uevent_helper && [ -d /sys/kernel/mm ] && echo wrote; true";
        let ran = world.run(&RunSpec { mounts, ..shell(script) }, world.launch());
        // Refused, or covered: never more than without it.
        assert_eq!(ran.stdout, "", "{target}");
    }
}

pub(crate) fn our_binary_cannot_be_written(world: &World) {
    let layer = world.fresh("layer");
    // The interpreter is this test program, which needs its libraries.
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new("ldd").arg(&program).output().unwrap();
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    for path in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        let copy = layer.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(path, copy).unwrap();
    }
    let evil = format!("#!/proc/self/exe {}\n", crate::support::OVERWRITE);
    std::fs::write(layer.join("evil"), evil).unwrap();
    std::fs::set_permissions(layer.join("evil"), PermissionsExt::from_mode(0o755)).unwrap();
    let before = std::fs::read(&program).unwrap();
    let mut launch = world.launch();
    launch.lowers.insert(0, layer);
    let ran = world.run(&RunSpec::new(["/evil"]), launch);
    assert_eq!(ran.stdout, "opened\n", "{}", ran.stderr);
    assert!(ran.stderr.contains("Read-only file system"), "{}", ran.stderr);
    assert!(std::fs::read(&program).unwrap() == before, "the program was changed");
}

pub(crate) fn abstract_sockets_of_the_host(world: &World) {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("mica-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let script = format!("grep -c @{name} /proc/net/unix; true");
    assert_eq!(world.sh(&script), "0\n");
    let spec = RunSpec { network: mica_executor::NetworkMode::Host, ..shell(&script) };
    assert_eq!(world.run(&spec, world.launch()).expect_success(), "1\n");
}

pub(crate) fn processes_of_the_host(world: &World) {
    let mut bystander = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let script = format!("kill -9 {} 2>/dev/null && echo signalled; kill -9 -1; true", bystander.id());
    assert_eq!(world.sh(&script), "");
    assert!(bystander.try_wait().unwrap().is_none(), "it was killed");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}
