//! Every field of every step, changed alone: the key changes exactly when what the step makes can.
//!
//! The structs are taken apart without `..`: a new field does not compile here before it has a row.

use mica_image::{LayerId, Platform};

use super::*;
use crate::graph::{CopySource, Resources, RunMount, Sharing, StepId};

/// Whether a change may change what the step makes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Matters {
    Yes,
    /// The runner adds what is there by content: slots and the paths in them.
    ByContent,
    /// The reference leaves it out as well: it is about where and how fast a step runs.
    No,
}
use Matters::{ByContent, No, Yes};

type Row<T> = (&'static str, Matters, fn(&mut T));

fn step(op: Op) -> Step {
    Step {
        id: StepId(1),
        name: "a step".into(),
        stage: Some("a".into()),
        span: None,
        line: Some(1),
        platform: Platform::parse("linux/amd64").unwrap(),
        has_parent: true,
        ignore_cache: false,
        op,
    }
}

fn mount(target: &str, kind: RunMountKind) -> RunMount {
    RunMount { target: target.into(), kind }
}

fn run() -> RunOp {
    RunOp {
        argv: vec!["sh".into(), "-c".into(), "make".into()],
        env: vec![("PATH".into(), "/bin".into()), ("A".into(), "1".into())],
        proxy_env: vec![("http_proxy".into(), "http://a".into())],
        cwd: "/".into(),
        user: String::new(),
        hostname: "h".into(),
        network: NetworkMode::Default,
        security: SecurityMode::Sandbox,
        extra_hosts: vec![("db".into(), "10.0.0.1".parse().unwrap())],
        ulimits: vec!["nofile=1:2".into()],
        shm_size: Some(1),
        resources: Resources::default(),
        cgroup_parent: Some("a".into()),
        mounts: vec![
            mount("/bind", RunMountKind::Bind { slot: 1, source: "/a".into(), read_only: true }),
            mount(
                "/cache",
                RunMountKind::Cache {
                    id: "c".into(),
                    sharing: Sharing::Shared,
                    from: None,
                    read_only: false,
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                },
            ),
            mount("/tmp", RunMountKind::Tmpfs { size: Some(1) }),
            mount(
                "/secret",
                RunMountKind::Secret {
                    id: "s".into(),
                    env: None,
                    required: false,
                    mode: 0o400,
                    uid: 0,
                    gid: 0,
                },
            ),
            mount("/ssh", RunMountKind::Ssh { id: "k".into(), required: false, mode: 0o600, uid: 0, gid: 0 }),
            mount("/script", RunMountKind::Script { content: "#!/bin/sh".into() }),
        ],
        left_out: vec!["logs".into()],
    }
}

/// Changes one field of a mount's kind.
macro_rules! of_mount {
    ($number:literal, $kind:ident, $field:ident, $value:expr) => {
        |run: &mut RunOp| match &mut run.mounts[$number].kind {
            RunMountKind::$kind { $field, .. } => *$field = $value,
            other => panic!("{other:?}"),
        }
    };
}

const RUN: &[Row<RunOp>] = &[
    ("argument", Yes, |run| run.argv[2] = "make all".into()),
    ("one argument more", Yes, |run| run.argv.push(String::new())),
    ("arguments divided elsewhere", Yes, |run| run.argv = vec!["sh".into(), "-c make".into()]),
    ("variable", Yes, |run| run.env[1].1 = "2".into()),
    ("name of a variable", Yes, |run| run.env[1].0 = "B".into()),
    ("one variable more", Yes, |run| run.env.push(("C".into(), String::new()))),
    ("proxy", No, |run| run.proxy_env.clear()),
    ("working directory", Yes, |run| run.cwd = "/a".into()),
    ("user", Yes, |run| run.user = "1".into()),
    ("host name", Yes, |run| run.hostname = "i".into()),
    ("network none", Yes, |run| run.network = NetworkMode::None),
    ("network host", Yes, |run| run.network = NetworkMode::Host),
    ("security", Yes, |run| run.security = SecurityMode::Insecure),
    ("extra host", Yes, |run| run.extra_hosts[0].0 = "other".into()),
    ("address of an extra host", No, |run| run.extra_hosts[0].1 = "10.0.0.2".parse().unwrap()),
    ("one extra host less", Yes, |run| run.extra_hosts.clear()),
    ("limit", Yes, |run| run.ulimits[0] = "nofile=1:3".into()),
    ("size of shared memory", Yes, |run| run.shm_size = Some(2)),
    ("usual size of shared memory", Yes, |run| run.shm_size = None),
    ("memory and processors", No, |run| run.resources.memory = Some(1 << 30)),
    ("control group", Yes, |run| run.cgroup_parent = None),
    ("what is left out", Yes, |run| run.left_out[0] = "caches".into()),
    ("nothing left out", Yes, |run| run.left_out.clear()),
    ("target of a mount", Yes, |run| run.mounts[0].target = "/b".into()),
    ("one mount less", Yes, |run| drop(run.mounts.pop())),
    ("bind: slot", ByContent, of_mount!(0, Bind, slot, 2)),
    ("bind: source", ByContent, of_mount!(0, Bind, source, "/b".into())),
    ("bind: read-only", Yes, of_mount!(0, Bind, read_only, false)),
    ("cache: id", No, of_mount!(1, Cache, id, "d".into())),
    ("cache: sharing", No, of_mount!(1, Cache, sharing, Sharing::Private)),
    ("cache: from", ByContent, of_mount!(1, Cache, from, Some((1, "/a".into())))),
    ("cache: read-only", Yes, of_mount!(1, Cache, read_only, true)),
    ("cache: mode", Yes, of_mount!(1, Cache, mode, 0o700)),
    ("cache: owner", Yes, of_mount!(1, Cache, uid, 1)),
    ("cache: group", Yes, of_mount!(1, Cache, gid, 1)),
    ("tmpfs: size", Yes, of_mount!(2, Tmpfs, size, Some(2))),
    ("secret: id", Yes, of_mount!(3, Secret, id, "t".into())),
    ("secret: variable", Yes, of_mount!(3, Secret, env, Some("S".into()))),
    ("secret: required", Yes, of_mount!(3, Secret, required, true)),
    ("secret: mode", Yes, of_mount!(3, Secret, mode, 0o444)),
    ("secret: owner", Yes, of_mount!(3, Secret, uid, 1)),
    ("secret: group", Yes, of_mount!(3, Secret, gid, 1)),
    ("ssh: id", Yes, of_mount!(4, Ssh, id, "l".into())),
    ("ssh: required", Yes, of_mount!(4, Ssh, required, true)),
    ("ssh: mode", Yes, of_mount!(4, Ssh, mode, 0o644)),
    ("ssh: owner", Yes, of_mount!(4, Ssh, uid, 1)),
    ("ssh: group", Yes, of_mount!(4, Ssh, gid, 1)),
    ("script", Yes, of_mount!(5, Script, content, "#!/bin/bash".into())),
];

fn copy() -> CopyOp {
    CopyOp {
        sources: vec![CopySource { slot: 1, path: "a".into(), unpack: Unpack::No }],
        destination: "/d".into(),
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        excludes: Vec::new(),
    }
}

const COPY: &[Row<CopyOp>] = &[
    ("slot", ByContent, |copy| copy.sources[0].slot = 2),
    ("path", ByContent, |copy| copy.sources[0].path = "b".into()),
    ("excludes", ByContent, |copy| copy.excludes.push("*.o".into())),
    ("unpacking", Yes, |copy| copy.sources[0].unpack = Unpack::Archive),
    ("one source more", Yes, |copy| copy.sources.push(copy.sources[0].clone())),
    ("destination", Yes, |copy| copy.destination = "/e".into()),
    ("slash of the destination", Yes, |copy| copy.destination = "/d/".into()),
    ("owner", Yes, |copy| copy.chown = Some("1".into())),
    ("empty owner", Yes, |copy| copy.chown = Some(String::new())),
    ("mode", Yes, |copy| copy.chmod = Some("700".into())),
    ("link", Yes, |copy| copy.link = true),
    ("parents", Yes, |copy| copy.parents = true),
];

const WORKDIR: &[Row<WorkdirOp>] =
    &[("path", Yes, |op| op.path = "/b".into()), ("user", Yes, |op| op.user = "1".into())];

const STEP: &[Row<Step>] = &[
    ("number", No, |step| step.id = StepId(2)),
    ("name", No, |step| step.name = "another".into()),
    ("stage", No, |step| step.stage = None),
    ("line", No, |step| step.line = None),
    ("platform", Yes, |step| step.platform = Platform::parse("linux/arm64").unwrap()),
    ("whether a record may be used", No, |step| step.ignore_cache = true),
];

fn check<T: Clone>(what: &str, right: &T, rows: &[Row<T>], key: impl Fn(T) -> CacheKey) {
    let before = key(right.clone());
    let mut seen = std::collections::BTreeMap::from([(before, "nothing")]);
    for (name, matters, change) in rows {
        let mut changed = right.clone();
        change(&mut changed);
        let after = key(changed);
        assert_eq!(after != before, *matters == Yes, "{what}: {name}");
        if *matters == Yes {
            assert_eq!(seen.insert(after, name), None, "{what}: {name} makes the key of another change");
        }
    }
}

#[test]
fn the_key_changes_exactly_when_the_result_can() {
    let tree = Tree::new();
    check("RUN", &run(), RUN, |op| step_parts(&step(Op::Run(op)), &tree).key());
    check("COPY", &copy(), COPY, |op| step_parts(&step(Op::Copy(op)), &tree).key());
    let workdir = WorkdirOp { path: "/a".into(), user: String::new() };
    check("WORKDIR", &workdir, WORKDIR, |op| step_parts(&step(Op::Workdir(op)), &tree).key());
    check("step", &step(Op::Run(run())), STEP, |step| step_parts(&step, &tree).key());
}

#[test]
fn a_run_depends_on_every_layer_below_and_their_order() {
    let layers = |bytes: &[u8]| -> Tree {
        let layer = |byte: &u8| mica_image::tree::TreeLayer::made(LayerId::from_bytes([*byte; 32]));
        bytes.iter().map(layer).collect()
    };
    let key = |bytes: &[u8]| step_parts(&step(Op::Run(run())), &layers(bytes)).key();
    let keys: std::collections::BTreeSet<_> =
        [&[][..], &[1], &[2], &[1, 2], &[2, 1], &[1, 1]].iter().map(|bytes| key(bytes)).collect();
    assert_eq!(keys.len(), 6);
}

#[test]
fn no_field_is_forgotten() {
    // A field that is added fails to compile here: give it a row above.
    let RunOp {
        argv: _,
        env: _,
        proxy_env: _,
        cwd: _,
        user: _,
        hostname: _,
        network: _,
        security: _,
        extra_hosts: _,
        ulimits: _,
        shm_size: _,
        resources: _,
        cgroup_parent: _,
        mounts: _,
        left_out: _,
    } = run();
    let CopyOp { sources, destination: _, chown: _, chmod: _, link: _, parents: _, excludes: _ } = copy();
    let CopySource { slot: _, path: _, unpack: _ } = &sources[0];
    let WorkdirOp { path: _, user: _ } = WorkdirOp { path: String::new(), user: String::new() };
    assert!(RUN.len() > 40 && COPY.len() > 10);
}
