//! Bases from a registry: names, credentials, how often it is asked, what happens when it misbehaves.

use serde_json::json;

use crate::support::{Access, Bench, Fault, Registry, file};

/// A registry with one image, and a bench whose Dockerfile stands on it.
fn with_base(access: Access) -> (Registry, Bench) {
    let registry = Registry::start(access);
    registry.put("team/base:1", &[file("first.txt", "first\n")], &json!({"Env": ["FROM_BASE=yes"]}));
    let bench = Bench::new();
    let name = registry.name("team/base:1");
    bench.dockerfile(&format!("FROM {name}\nCOPY a /a\n")).write("a", "a\n");
    (registry, bench)
}

/// Writes what `docker login` leaves behind.
fn log_in(bench: &Bench, registry: &Registry, credentials: &str) {
    let host = registry.name("");
    let config = json!({"auths": {host.trim_end_matches('/'): {"auth": credentials}}});
    std::fs::create_dir(bench.path("home/.docker")).unwrap();
    std::fs::write(bench.path("home/.docker/config.json"), config.to_string()).unwrap();
}

#[test]
fn a_base_is_pulled_once() {
    let (registry, bench) = with_base(Access::Open);
    bench.mica(&["build", "-t", "app", "-o", "../out", "."]).succeeds();
    assert_eq!(std::fs::read_to_string(bench.path("out/first.txt")).unwrap(), "first\n");
    let inspected = bench.mica(&["inspect", "app"]).succeeds().stdout;
    assert!(inspected.contains("FROM_BASE=yes"), "{inspected}");
    assert!(!registry.served().is_empty());
    bench.write("a", "b\n").mica(&["build", "."]).succeeds();
    assert_eq!(registry.served(), Vec::<String>::new(), "the tag was resolved before");
}

#[test]
fn a_base_whose_layers_are_gone_is_pulled_again() {
    let (registry, bench) = with_base(Access::Open);
    bench.mica(&["build", "."]).succeeds();
    registry.served();
    // As after a power cut: a layer that may not have reached the disk does not count.
    std::fs::remove_dir_all(bench.path("store/layers")).unwrap();
    bench.mica(&["build", "-o", "../out", "."]).succeeds();
    assert_eq!(std::fs::read_to_string(bench.path("out/first.txt")).unwrap(), "first\n");
    assert!(!registry.served().is_empty());
}

#[test]
fn a_moved_tag_is_seen_with_pull() {
    let (registry, bench) = with_base(Access::Open);
    bench.mica(&["build", "-o", "../out", "."]).succeeds();
    registry.put("team/base:1", &[file("second.txt", "second\n")], &json!({}));
    registry.served();
    bench.mica(&["build", "-o", "../again", "."]).succeeds();
    assert!(bench.path("again/first.txt").exists());
    bench.mica(&["build", "--pull", "-o", "../pulled", "."]).succeeds();
    assert!(bench.path("pulled/second.txt").exists() && !bench.path("pulled/first.txt").exists());
    registry.served();
    bench.mica(&["build", "--pull", "."]).succeeds();
    let served = registry.served();
    assert!(!served.is_empty() && served.iter().all(|asked| asked.contains("/manifests/")), "{served:?}");
}

#[test]
fn a_digest_names_content_and_is_checked() {
    let registry = Registry::start(Access::Open);
    let digest = registry.put("base:1", &[file("f", "f\n")], &json!({}));
    let bench = Bench::new();
    bench.dockerfile(&format!("FROM {}@{digest}\n", registry.name("base")));
    bench.mica(&["build", "-o", "../out", "."]).succeeds();
    assert!(bench.path("out/f").exists());
    registry.spoil_blobs();
    let other = Bench::new();
    other.dockerfile(&format!("FROM {}@{digest}\n", registry.name("base")));
    let ran = other.mica(&["build", "-t", "app", "."]);
    assert!(ran.code.is_some_and(|code| code != 0), "{ran:?}");
    ran.says(&["sha256:"]);
    assert_eq!(other.mica(&["images", "-q"]).succeeds().stdout, "");
}

#[test]
fn credentials_of_docker_login_are_used() {
    for access in [Access::Basic, Access::Token] {
        let (registry, bench) = with_base(access);
        let refused = bench.mica(&["build", "."]);
        assert!(refused.code.is_some_and(|code| code != 0), "{access:?}: {refused:?}");
        assert!(registry.served().is_empty(), "{access:?}");
        log_in(&bench, &registry, "dXNlcjpzZWNyZXQ=");
        bench.mica(&["build", "-o", "../out", "."]).succeeds().says_not("c2VjcmV0").says_not("secret");
        assert!(bench.path("out/first.txt").exists(), "{access:?}");
    }
}

#[test]
fn wrong_credentials_are_not_shown() {
    let (registry, bench) = with_base(Access::Basic);
    log_in(&bench, &registry, "dXNlcjp3cm9uZy1wYXNzd29yZA==");
    let ran = bench.mica(&["build", "."]);
    assert!(ran.code.is_some_and(|code| code != 0), "{ran:?}");
    ran.says(&[&registry.name("team/base:1")]).says_not("wrong-password").says_not("dXNlcjp3cm9uZy");
}

#[test]
fn what_fails_for_a_moment_is_asked_again() {
    for fault in [Fault::Down, Fault::Throttled, Fault::Cut, Fault::Slow] {
        let (registry, bench) = with_base(Access::Open);
        registry.fail(fault, 2);
        bench.mica(&["build", "-o", "../out", "."]).succeeds();
        assert!(bench.path("out/first.txt").exists());
    }
}

#[test]
fn what_does_not_get_better_is_told() {
    for (fault, told) in [
        (Fault::Down, &["answered 503", "try again later"][..]),
        (Fault::Throttled, &["answered 429", "the registry limits requests: log in, use a mirror"]),
        (Fault::Cut, &["broke", "bytes"]),
        (Fault::Renamed, &["sha256:", "team/base:1"]),
    ] {
        let (registry, bench) = with_base(Access::Open);
        registry.fail(fault.clone(), 1000);
        let ran = bench.mica(&["build", "-t", "app", "."]);
        assert!(ran.code.is_some_and(|code| code != 0), "{fault:?}");
        ran.says(told).says_not("panicked");
        // Nothing of it stays: a registry that is well again gives the image.
        assert_eq!(bench.mica(&["images", "-q"]).succeeds().stdout, "");
        registry.fail(fault, 0);
        bench.mica(&["build", "-o", "../out", "."]).succeeds();
        assert!(bench.path("out/first.txt").exists());
    }
}

#[test]
fn blobs_may_be_elsewhere_and_credentials_stay_where_they_belong() {
    for access in [Access::Basic, Access::Token] {
        let (registry, bench) = with_base(access);
        let (elsewhere, _) = with_base(Access::Open);
        registry.redirect_blobs(&elsewhere);
        log_in(&bench, &registry, "dXNlcjpzZWNyZXQ=");
        bench
            .mica(&["-vv", "build", "-o", "../out", "."])
            .succeeds()
            .says_not("dXNlcjpzZWNyZXQ")
            .says_not("signature=");
        assert!(bench.path("out/first.txt").exists(), "{access:?}");
        let (here, there) = (registry.shown(), elsewhere.shown());
        assert!(here.len() >= 2 && here.iter().all(|shown| !shown.is_empty()), "{here:?}");
        assert!(there.len() >= 2 && there.iter().all(String::is_empty), "{there:?}");
    }
}

#[test]
fn an_image_that_is_not_there_is_a_failed_build() {
    let (registry, bench) = with_base(Access::Open);
    let name = registry.name("team/missing:1");
    bench.dockerfile(&format!("FROM scratch\nFROM {name}\n"));
    bench.mica(&["build", "."]).exits(1).says(&[&name, "Dockerfile:2"]);
}

#[test]
fn a_registry_that_is_not_there_is_a_service_that_is_unavailable() {
    let bench = Bench::new();
    // Port 1 of the loopback device is nobody's.
    bench.dockerfile("FROM 127.0.0.1:1/base\n");
    bench.mica(&["build", "."]).exits(69).says(&["127.0.0.1:1/base"]);
    bench.mica(&["pull", "127.0.0.1:1/base"]).exits(69).says(&["127.0.0.1:1"]);
}

#[test]
fn offline_asks_nobody() {
    let (registry, bench) = with_base(Access::Open);
    bench.mica(&["build", "--offline", "."]).exits(1).says(&["offline"]);
    assert!(registry.served().is_empty());
    bench.mica(&["pull", &registry.name("team/base:1")]).succeeds();
    registry.served();
    bench.mica(&["build", "--offline", "-o", "../out", "."]).succeeds();
    assert!(registry.served().is_empty() && bench.path("out/a").exists());
}
