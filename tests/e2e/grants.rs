//! What a build hands to steps: agents and keys for ssh, secrets, cache directories.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{Bench, has_peer, processes_saying, skip, wait_until};

/// Makes a key in the context.
fn key(bench: &Bench, name: &str, passphrase: &str) {
    let path = bench.context().join(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-C", "the comment", "-N", passphrase, "-f"])
        .arg(&path)
        .stdin(Stdio::null())
        .status()
        .expect("ssh-keygen is there");
    assert!(made.success());
}

/// Asks the agent behind a socket for its keys; the answer holds them as they are.
fn keys_of(socket: &Path) -> Vec<u8> {
    let mut agent = UnixStream::connect(socket).expect("it listens");
    agent.write_all(&[0, 0, 0, 1, 11]).expect("it reads");
    let mut length = [0; 4];
    agent.read_exact(&mut length).expect("it answers");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    agent.read_exact(&mut answer).expect("it answers");
    answer
}

/// Finds the socket a step has been given.
fn socket_of(bench: &Bench) -> PathBuf {
    let found =
        Command::new("find").arg(bench.path("store/scratch")).args(["-name", "ssh", "-type", "s"]).output();
    let found = String::from_utf8(found.expect("find is there").stdout).expect("our paths are text");
    PathBuf::from(found.lines().next().expect("the step has a socket"))
}

#[test]
fn an_ssh_socket_belongs_to_whom_its_mount_says() {
    let Some(bench) = Bench::with_base() else { return };
    if !has_peer("ssh-agent") || !has_peer("ssh-keygen") {
        return;
    }
    key(&bench, "id", "");
    bench.dockerfile(
        "FROM base\n\
         RUN --mount=type=ssh,id=k test -S $SSH_AUTH_SOCK && stat -c 'socket %u:%g %a' $SSH_AUTH_SOCK\n\
         RUN --mount=type=ssh,id=k,uid=12,gid=34,mode=0640 stat -c 'socket %u:%g %a' $SSH_AUTH_SOCK\n\
         RUN --mount=type=ssh,id=k,target=/deep/sock test -S /deep/sock\n\
         RUN test -z \"$SSH_AUTH_SOCK\" && ! test -e /run/buildkit && ! test -e /deep\n",
    );
    let ran = bench.mica(&["build", "--progress=plain", "--ssh", "k=id", "."]).succeeds();
    ran.says(&["socket 0:0 600", "socket 12:34 640"]);
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}

#[test]
fn a_key_file_is_served_by_an_agent_and_goes_nowhere() {
    let Some(bench) = Bench::with_base() else { return };
    if !has_peer("ssh-agent") || !has_peer("ssh-keygen") {
        return;
    }
    key(&bench, "id", "");
    key(&bench, "locked", "passphrase");
    bench.write(".dockerignore", "id*\nlocked*\n");
    bench.dockerfile("FROM base\nRUN --mount=type=ssh,required echo started; sleep 60\n");
    let mut build = bench.start_build(&["--ssh", "default=id"]);
    build.wait_for_output("started");
    let answer = String::from_utf8_lossy(&keys_of(&socket_of(&bench))).into_owned();
    assert!(answer.contains("ssh-ed25519") && answer.contains("the comment"), "{answer}");
    let text = std::fs::read_to_string(bench.context().join("id")).unwrap();
    let line = text.lines().nth(1).unwrap();
    let found = Command::new("grep").args(["-rlF", "--", line]).arg(bench.path("store")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    build.signal(Signal::INT);
    build.end();
    let agents = bench.path("store/scratch");
    wait_until("the agent has ended", || processes_saying(agents.to_str().expect("it is text")).is_empty());

    let refused = |given: &str, says: &[&str]| {
        bench.mica(&["build", "--no-cache", "--ssh", given, "."]).exits(1).says(says);
    };
    refused("default=locked", &["`locked` is not taken as a key", "passphrase"]);
    refused("default=Dockerfile", &["`Dockerfile` is not taken as a key"]);
    refused("default=nothing", &["cannot read `nothing`"]);
}

#[test]
fn what_a_step_requires_and_does_not_get_is_named_with_its_flag() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN --mount=type=ssh,id=deploy,required true\n");
    bench.mica(&["build", "."]).exits(1).says(&["ssh agent `deploy` is required", "`--ssh deploy`"]);
    bench.dockerfile("FROM base\nRUN --mount=type=secret,id=token,required true\n");
    bench
        .mica(&["build", "."])
        .exits(1)
        .says(&["secret `token` is required", "`--secret id=token,src=FILE`"]);
}

#[test]
fn mounts_of_one_cache_in_one_step_are_one_directory() {
    let Some(bench) = Bench::with_base() else { return };
    let steps = ["shared", "private", "locked"].map(|mode| {
        let mount = |target: &str| format!("--mount=type=cache,id={mode},sharing={mode},target={target}");
        format!("RUN {} {} echo x > /one/file && cat /two/file\n", mount("/one"), mount("/two"))
    });
    bench.dockerfile(&format!("FROM base\n{}", steps.concat()));
    bench.mica(&["build", "."]).succeeds();
}

#[test]
fn steps_that_lock_the_same_caches_never_wait_for_each_other() {
    let Some(bench) = Bench::with_base() else { return };
    let mount = |id: &str| format!("--mount=type=cache,id={id},sharing=locked,target=/{id}");
    let (a, b) = (mount("a"), mount("b"));
    bench.dockerfile(&format!(
        "FROM base AS one\nRUN {a} {b} sleep 0.2; touch /1\nFROM base AS two\nRUN {b} {a} sleep 0.2; touch /2\n\
         FROM scratch\nCOPY --from=one /1 /\nCOPY --from=two /2 /\n"
    ));
    bench.mica(&["build", "--jobs=2", "."]).succeeds();
}

#[test]
fn without_the_cache_cache_mounts_begin_empty_too() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile(
        "FROM base\n\
         RUN --mount=type=cache,target=/cache echo x >> /cache/log\n\
         RUN --mount=type=cache,target=/cache echo x >> /cache/log; wc -l < /cache/log > /lines\n",
    );
    bench.mica(&["build", "-o", "../first", "."]).succeeds();
    bench.mica(&["build", "--no-cache", "-o", "../second", "."]).succeeds();
    assert_eq!(std::fs::read_to_string(bench.path("second/lines")).unwrap(), "2\n");
    bench.write(
        "Dockerfile",
        std::fs::read_to_string(bench.context().join("Dockerfile")).unwrap()
            + "RUN --mount=type=cache,target=/cache cp /cache/log /log\n",
    );
    bench.mica(&["build", "-o", "../third", "."]).succeeds();
    assert_eq!(std::fs::read_to_string(bench.path("third/log")).unwrap(), "x\nx\n");
}

#[test]
fn the_helper_of_a_private_network_takes_no_mount_from_the_host() {
    if !rustix::process::geteuid().is_root() {
        return skip("MICA_REQUIRE_SANDBOX", "only root's helpers share mounts with the machine");
    }
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN true\n");
    // As `ip netns` does it: a shared directory below /run, in which others have mounted something.
    const SCRIPT: &str = "set -e; directory=$(mktemp -d /run/mica-test-XXXXXX); trap 'umount -l $directory; rmdir $directory' EXIT
        mount -t tmpfs none $directory; mount --make-shared $directory; mkdir $directory/x; mount -t tmpfs none $directory/x
        \"$@\"; grep -q \" $directory/x \" /proc/self/mountinfo";
    let build = bench.command(&["build", "."]);
    let ran = Command::new("unshare")
        .args(["--mount", "--propagation=private", "sh", "-c", SCRIPT, "sh"])
        .arg(build.get_program())
        .args(build.get_args())
        .envs(build.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(bench.context())
        .output()
        .expect("unshare is there");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
