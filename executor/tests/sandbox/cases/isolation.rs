//! What a step sees of the world, and what it must not.

use crate::support::{World, shell};
use mica_executor::{IdMode, RunSpec, SecurityMode};

pub(crate) fn sees_only_its_own_processes(world: &World) {
    assert_eq!(world.sh("set -- /proc/[0-9]*; echo $$ $#"), "1 1\n");
}

pub(crate) fn has_the_given_host_name(world: &World) {
    let spec = RunSpec { hostname: "box".into(), ..shell("hostname; grep -c box /etc/hosts") };
    assert_eq!(world.run(&spec, world.launch()).expect_success(), "box\n1\n");
}

pub(crate) fn sees_the_expected_mounts(world: &World) {
    let mounts = world.sh("cat /proc/mounts");
    for (target, kind, options) in [
        ("/", "overlay", "rw"),
        ("/proc", "proc", "nosuid,nodev,noexec"),
        ("/dev", "tmpfs", "nosuid"),
        ("/dev/shm", "tmpfs", "size=65536k"),
        ("/dev/pts", "devpts", "ptmxmode=666"),
        ("/dev/mqueue", "mqueue", "nosuid"),
        ("/sys", "sysfs", "ro,"),
        ("/etc/resolv.conf", "tmpfs", "ro,"),
        ("/etc/hosts", "tmpfs", "ro,"),
        ("/proc/sys", "proc", "ro,"),
    ] {
        let found = mounts.lines().any(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            fields[1] == target && fields[2] == kind && fields[3].contains(options)
        });
        assert!(found, "{target} is not a {kind} with {options}:\n{mounts}");
    }
    let base = world.base.display().to_string();
    assert!(!mounts.contains(&base), "a path of the host shows:\n{mounts}");
}

pub(crate) fn keeps_few_capabilities(world: &World) {
    let status = world.sh("grep Cap /proc/self/status | tr '\\n\\t' '  '");
    let none = "0000000000000000";
    let few = "00000000a80425fb";
    let expect = format!("CapInh: {none} CapPrm: {few} CapEff: {few} CapBnd: {few} CapAmb: {none} ");
    assert_eq!(status, expect);
}

pub(crate) fn is_filtered(world: &World) {
    let status = world.sh("grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | tr '\\n\\t' '  '");
    assert_eq!(status, "NoNewPrivs: 0 Seccomp: 2 ");
    let attempt = "mount -t tmpfs x /tmp 2>/dev/null && echo mounted; unshare -r true 2>/dev/null && echo unshared; true";
    assert_eq!(world.sh(attempt), "");
}

pub(crate) fn inherits_no_descriptor(world: &World) {
    // 3 is the directory being listed.
    assert_eq!(world.sh("ls /proc/self/fd | tr '\\n' ' '"), "0 1 2 3 ");
    assert_eq!(
        world.run(&RunSpec::new(["ls", "/proc/self/fd"]), world.launch()).expect_success(),
        "0\n1\n2\n3\n"
    );
}

pub(crate) fn cannot_write_kernel_settings(world: &World) {
    let script = "for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/uevent_helper; do \
        echo x 2>/dev/null > $f && echo wrote $f; done; echo x > /proc/sys/kernel/hostname";
    let ran = world.run(&shell(script), world.launch());
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("Read-only file system"), "{}", ran.stderr);
}

pub(crate) fn sees_no_masked_files(world: &World) {
    let script = "for f in /proc/keys /proc/timer_list /proc/interrupts; do [ -e $f ] && cat $f; done; \
        ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v :; head -c1 /proc/kcore | wc -c | tr -d ' '";
    let printed = world.sh(script);
    assert_eq!(printed.trim(), "0");
}

pub(crate) fn has_usual_devices(world: &World) {
    let listed = world.sh("ls /dev | tr '\\n' ' '");
    assert_eq!(listed, "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ");
    let script = "echo x > /dev/null && head -c4 /dev/zero | wc -c | tr -d ' '; head -c4 /dev/urandom | wc -c \
        | tr -d ' '; echo out > /dev/stdout; cat /dev/null; echo shm > /dev/shm/x && cat /dev/shm/x";
    assert_eq!(world.sh(script), "4\n4\nout\nshm\n");
}

pub(crate) fn makes_terminals(world: &World) {
    assert_eq!(world.sh("exec 3<>/dev/ptmx && ls /dev/pts | tr '\\n' ' '"), "0 ptmx ");
}

pub(crate) fn has_umask_022(world: &World) {
    assert_eq!(world.sh("umask; touch /f; mkdir /d; stat -c %a /f /d"), "0022\n644\n755\n");
}

pub(crate) fn has_an_empty_input(world: &World) {
    assert_eq!(world.sh("cat; readlink /proc/self/fd/0"), "/dev/null\n");
}

pub(crate) fn has_default_signals(world: &World) {
    let spec = RunSpec::new(["grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"]);
    let none = "0000000000000000";
    let expect = format!("SigBlk:\t{none}\nSigIgn:\t{none}\nSigCgt:\t{none}\n");
    assert_eq!(world.run(&spec, world.launch()).expect_success(), expect);
}

pub(crate) fn sees_a_constant_environment(world: &World) {
    let printed = world.run(&RunSpec::new(["/bin/env"]), world.launch()).expect_success();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(printed, format!("{path}\nHOME=/root\n"));
}

pub(crate) fn insecure_steps_keep_everything(world: &World) {
    let script = "mount -t tmpfs x /tmp && echo mounted; grep Seccomp: /proc/self/status | tr -d '\\t'";
    let spec = RunSpec { security: SecurityMode::Insecure, ..shell(script) };
    let expect = if world.mode == IdMode::Single { "mounted\nSeccomp:2\n" } else { "mounted\nSeccomp:0\n" };
    assert_eq!(world.run(&spec, world.launch()).expect_success(), expect);
}

pub(crate) fn no_new_privileges_on_request(world: &World) {
    let spec =
        RunSpec { no_new_privileges: true, ..shell("grep NoNewPrivs /proc/self/status | tr -d '\\t'") };
    assert_eq!(world.run(&spec, world.launch()).expect_success(), "NoNewPrivs:1\n");
}
