//! RUN steps seen from a build: at once where they can be, with what they were given and nothing else.

use std::time::{Duration, Instant};

use crate::support::{Bench, Image, files_holding};

#[test]
fn independent_stages_run_at_once() {
    let Some(bench) = Bench::with_base() else { return };
    let stages = ["a", "b", "c", "d"];
    let mut text: String =
        stages.map(|stage| format!("FROM base AS {stage}\nRUN sleep 2; echo {stage} > /{stage}\n")).concat();
    text.push_str("FROM scratch\n");
    text.extend(stages.map(|stage| format!("COPY --from={stage} /{stage} /\n")));
    bench.dockerfile(&text);
    let begin = Instant::now();
    bench.mica(&["build", "--jobs", "4", "-o", "../out", "."]).succeeds();
    let took = begin.elapsed();
    // Other tests keep the processors busy; one after another they would still take eight.
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(std::fs::read_to_string(bench.path("out/d")).unwrap(), "d\n");
}

#[test]
fn jobs_are_bounded() {
    let Some(bench) = Bench::with_base() else { return };
    // Each step marks that it is at work in a cache both see, and finds the other's mark where they overlap.
    let step = "RUN --mount=type=cache,target=/marks mkdir /marks/busy && sleep 0.3 && rmdir /marks/busy";
    bench.dockerfile(&format!(
        "FROM base AS a\n{step} && touch /a\nFROM base AS b\n{step} && touch /b\nFROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
    ));
    bench.mica(&["build", "--jobs", "1", "."]).succeeds();
}

#[test]
fn an_equal_result_leaves_later_steps_cached() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile(
        "FROM base\nRUN --mount=type=bind,source=input,target=/input wc -c < /input > /size\nRUN cat /size > /later\n",
    );
    let first = bench.write("input", "12345").build_quiet(&[]);
    let ran = bench.write("input", "54321").mica(&["build", "."]).succeeds();
    ran.says(&["1 step cached, 1 ran", "its output is what it was before", "CACHED"]);
    assert_eq!(bench.build_quiet(&[]), first);
}

#[test]
fn secrets_are_seen_by_the_step_alone() {
    let Some(bench) = Bench::with_base() else { return };
    let token = "hunter2-correct-horse";
    bench.dockerfile(
        "FROM base\n\
         RUN --mount=type=secret,id=token cat /run/secrets/token && wc -c < /run/secrets/token > /size\n\
         RUN --mount=type=secret,id=token,env=TOKEN echo $TOKEN && test -n \"$TOKEN\"\n\
         RUN ls /run > /listing; env > /environment\n",
    );
    let arguments = ["build", "--secret", "id=token,env=GIVEN", "-o", "type=oci,dest=../out.tar", "."];
    let ran = bench.mica_with(&arguments, &[("GIVEN", token)], b"").succeeds();
    ran.says_not(token);
    let image = Image::read(&std::fs::read(bench.path("out.tar")).unwrap());
    assert!(image.files["/size"].trim_end().ends_with(&token.len().to_string()), "{}", image.files["/size"]);
    assert!(!image.files["/listing"].contains("secrets") && !image.files.contains_key("/run/secrets"));
    assert!(!image.files["/environment"].contains("TOKEN"));
    assert!(!image.config.to_string().contains(token));
    assert_eq!(files_holding(&bench.path("store"), token), "");
}

#[test]
fn a_cache_mount_stays_between_builds_and_out_of_the_image() {
    let Some(bench) = Bench::with_base() else { return };
    let step = "RUN --mount=type=cache,target=/kept echo x >> /kept/lines; wc -l < /kept/lines > /count\n";
    bench.dockerfile(&format!("FROM base\nARG RUN\n{step}"));
    for count in ["1\n", "2\n", "3\n"] {
        let again = format!("RUN={}", count.trim_end());
        bench.mica(&["build", "--build-arg", &again, "-o", "type=tar,dest=../out.tar", "."]).succeeds();
        let out = std::fs::read(bench.path("out.tar")).unwrap();
        let mut archive = tar::Archive::new(out.as_slice());
        let mut told = String::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            assert!(!path.contains("kept/lines"), "{path}");
            if path.trim_start_matches("./") == "count" {
                std::io::Read::read_to_string(&mut entry, &mut told).unwrap();
            }
        }
        assert_eq!(told, count);
    }
}

#[test]
fn a_step_has_no_network_where_none_is_asked_for() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN --network=none ls /sys/class/net > /interfaces; cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' ' > /interfaces\n");
    bench.mica(&["build", "-o", "type=oci,dest=../out.tar", "."]).succeeds();
    let image = Image::read(&std::fs::read(bench.path("out.tar")).unwrap());
    assert!(image.files["/interfaces"].ends_with(" lo\n"), "{}", image.files["/interfaces"]);
}

#[test]
fn the_host_cannot_be_seen() {
    let Some(bench) = Bench::with_base() else { return };
    let marker = bench.path("marker");
    std::fs::write(&marker, "host").unwrap();
    bench.dockerfile(&format!(
        "FROM base\nRUN test ! -e {path} && test ! -e /proc/1/root{path}\nRUN test $$ -lt 20 && ps > /processes\nRUN ! mount -t tmpfs none /mnt\n",
        path = marker.display(),
    ));
    bench.mica(&["build", "."]).succeeds();
}

#[test]
fn steps_that_lock_the_same_caches_do_not_wait_for_each_other_for_ever() {
    let Some(bench) = Bench::with_base() else { return };
    let cache = |id: &str| format!("--mount=type=cache,sharing=locked,id={id},target=/{id}");
    let (a, b) = (cache("a"), cache("b"));
    let stage =
        |name: &str, mounts: &str| format!("FROM base AS {name}\nRUN {mounts} sleep 0.3 && touch /{name}\n");
    let copies = "FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\n";
    bench.dockerfile(&format!(
        "{}{}{copies}",
        stage("one", &format!("{a} {b}")),
        stage("two", &format!("{b} {a}"))
    ));
    bench.mica(&["build", "--jobs", "2", "."]).succeeds();
}

#[test]
fn a_step_may_mount_a_locked_cache_twice() {
    let Some(bench) = Bench::with_base() else { return };
    let cache = |target: &str| format!("--mount=type=cache,sharing=locked,id=a,target={target}");
    bench.dockerfile(&format!(
        "FROM base\nRUN {} {} touch /first/f && test -e /second/f\n",
        cache("/first"),
        cache("/second")
    ));
    bench.mica(&["build", "."]).succeeds();
}

#[test]
fn a_key_is_not_handed_to_a_step_in_an_agents_place() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN --mount=type=ssh,required cat $SSH_AUTH_SOCK > /stolen\n");
    bench.write("key", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    let ran = bench.mica(&["build", "--ssh", "default=key", "."]).exits(1);
    ran.says(&["`key` is not taken as a key"]);
}

/// Builds two stages at once that take a cache, each of which waits a while for a sign of the other; returns whether they met, and how
/// many of the two found what the other had left in the cache.
fn meet(bench: &Bench, sharing: &str, seconds: u32) -> ([bool; 2], usize) {
    let stage = |name: &str, other: &str| {
        let tenths = seconds * 10;
        format!(
            "FROM base AS {name}\n\
             RUN --mount=type=cache,id=used,sharing={sharing},target=/used --mount=type=cache,id=signs,target=/signs \
             touch /used/{name} /signs/{name}; tried=0; \
             while [ ! -e /signs/{other} ] && [ $tried -lt {tenths} ]; do sleep 0.1; tried=$((tried + 1)); done; \
             if [ -e /signs/{other} ]; then echo met > /met; sleep 2; else echo alone > /met; fi; \
             if [ -e /used/{other} ]; then echo yes > /found; else echo no > /found; fi; rm -f /signs/{name}\n"
        )
    };
    let copies = ["a", "b"].map(|name| format!("COPY --from={name} /met /found /{name}/\n")).concat();
    bench.dockerfile(&format!("{}{}FROM scratch\n{copies}", stage("a", "b"), stage("b", "a")));
    bench.mica(&["build", "--jobs", "2", "-o", "../out", "."]).succeeds();
    let says = |name: &str, text: &str| {
        std::fs::read_to_string(bench.path("out").join(name)).unwrap().trim_end() == text
    };
    let found = ["a/found", "b/found"].into_iter().filter(|name| says(name, "yes")).count();
    (["a/met", "b/met"].map(|name| says(name, "met")), found)
}

#[test]
fn steps_that_lock_a_cache_use_it_one_after_the_other() {
    let Some(bench) = Bench::with_base() else { return };
    assert_eq!(meet(&bench, "locked", 2), ([false, false], 1), "the second has what the first left");
}

#[test]
fn steps_that_share_a_cache_see_each_others_files() {
    let Some(bench) = Bench::with_base() else { return };
    assert_eq!(meet(&bench, "shared", 60), ([true, true], 2));
}

#[test]
fn steps_with_private_caches_do_not_meet_in_them() {
    let Some(bench) = Bench::with_base() else { return };
    assert_eq!(meet(&bench, "private", 60), ([true, true], 0));
}

#[test]
fn builds_that_lock_a_cache_use_it_one_after_the_other() {
    let Some(bench) = Bench::with_base() else { return };
    let step = "--mount=type=cache,id=used,sharing=locked,target=/used mkdir /used/busy && echo in && sleep 2 && rmdir /used/busy";
    bench.dockerfile(&format!("FROM base\nARG NUMBER\nRUN {step}\n"));
    let mut first = bench.start_build(&["--build-arg", "NUMBER=1"]);
    first.wait_for_output("in");
    // It would find the directory of the first, were it not made to wait.
    let second = bench.start_build(&["--build-arg", "NUMBER=2"]);
    for running in [second, first] {
        let (code, _, lines) = running.end();
        assert_eq!(code, Some(0), "{lines:#?}");
    }
}

#[test]
fn a_secret_is_bounded_and_not_altered() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN --mount=type=secret,id=s,env=S true\n");
    bench.write("binary", b"\xff\xfe").write("large", vec![b'x'; 500 * 1024 + 1]);
    let build = |source: &str| bench.mica(&["build", "--secret", &format!("id=s,src={source}"), "."]);
    build("binary").exits(1).says(&["secret `s`: it is not UTF-8 text and cannot be a variable"]);
    build("large").exits(1).says(&["secret `s`: it is larger than 500 KiB"]);
    bench.dockerfile("FROM base\nRUN --mount=type=secret,id=s test $(wc -c < /run/secrets/s) = 2\n");
    build("binary").succeeds();
}

#[test]
fn a_log_that_cannot_be_kept_is_told_of_once() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN echo one\nRUN echo two\n");
    std::fs::remove_dir_all(bench.path("store/builds"))
        .or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
        .unwrap();
    std::fs::write(bench.path("store/builds"), "").unwrap();
    let ran = bench.mica(&["build", "--no-cache", "."]).succeeds();
    assert_eq!(ran.stderr.matches("logs of steps cannot be written").count(), 1, "{}", ran.stderr);
}
