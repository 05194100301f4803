//! What runs again, and what does not. Steps of a base with a shell, so each test needs a sandbox.

use std::fs::{File, FileTimes};
use std::time::{Duration, SystemTime};

use crate::support::{Bench, Image, file, tar};

/// Two stages that take one file each, and one that takes from both.
const TWO_BRANCHES: &str = "FROM base AS left\n\
    COPY left.txt /\n\
    RUN cat left.txt > /left.out\n\
    FROM base AS right\n\
    COPY right.txt /\n\
    RUN cat right.txt > /right.out\n\
    FROM base\n\
    COPY --from=left /left.out /\n\
    COPY --from=right /right.out /\n\
    RUN cat /left.out /right.out > /both\n";

fn two_branches() -> Option<Bench> {
    let bench = Bench::with_base()?;
    bench.dockerfile(TWO_BRANCHES).write("left.txt", "left\n").write("right.txt", "right\n");
    bench.mica(&["build", "."]).succeeds().says(&["7 steps ran"]);
    Some(bench)
}

#[test]
fn a_second_build_runs_nothing() {
    let Some(bench) = two_branches() else { return };
    let ran = bench.mica(&["build", "."]).succeeds();
    ran.says(&["all 7 steps were cached", "CACHED"]);
}

#[test]
fn a_changed_file_reruns_what_depends_on_it() {
    let Some(bench) = two_branches() else { return };
    bench.write("left.txt", "other\n");
    let ran = bench.mica(&["build", "-o", "../out", "."]).succeeds();
    ran.says(&["3 steps cached, 4 ran", "`left.txt` changed"]);
    assert_eq!(std::fs::read_to_string(bench.path("out/both")).unwrap(), "other\nright\n");
}

#[test]
fn a_touched_file_reruns_nothing() {
    let Some(bench) = two_branches() else { return };
    let touched = File::options().write(true).open(bench.context().join("left.txt")).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    touched.set_times(FileTimes::new().set_modified(time)).unwrap();
    bench.mica(&["build", "."]).succeeds().says(&["all 7 steps were cached"]);
}

#[test]
fn a_forced_step_with_an_equal_result_changes_nothing_after_it() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile(
        "FROM base AS made\nRUN echo same > /made\nFROM base\nCOPY --from=made /made /\nRUN cat /made > /after\n",
    );
    let first = bench.build_quiet(&[]);
    let ran = bench.mica(&["build", "--no-cache-filter", "made", "."]).succeeds();
    ran.says(&["2 steps cached, 1 ran", "its output is what it was before"]);
    assert_eq!(bench.build_quiet(&["--no-cache-filter", "made"]), first);
}

#[test]
fn without_the_cache_everything_runs() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN cat /proc/sys/kernel/random/uuid > /random\nRUN cat /random\n");
    let first = bench.build_quiet(&[]);
    bench.mica(&["build", "--no-cache", "."]).succeeds().says(&["2 steps ran"]);
    // The newest result replaces the older one.
    let later = bench.build_quiet(&[]);
    assert_ne!(later, first);
    assert_eq!(bench.build_quiet(&[]), later);
}

#[test]
fn an_edited_date_is_another_image() {
    let Some(bench) = Bench::with_base() else { return };
    let with = |year: &str| {
        bench.dockerfile(&format!("FROM base\nRUN echo x > /f && touch -d '{year}-01-01 00:00:00' /f\n"));
        bench.build_quiet(&[])
    };
    let first = with("2001");
    assert_ne!(with("2002"), first);
    assert_eq!(with("2001"), first);
}

#[test]
fn times_in_an_added_archive_are_part_of_the_image() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nADD files.tar /\n");
    let with = |time: u64| {
        bench.write("files.tar", tar(&[file("f", "the same\n").time(time)]));
        bench.build_quiet(&[])
    };
    let first = with(1_000_000_000);
    assert_ne!(with(1_100_000_000), first);
    assert_eq!(with(1_000_000_000), first);
}

#[test]
fn times_in_the_context_are_not() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY tree /tree\n").write("tree/f", "f\n");
    let first = bench.build_quiet(&[]);
    let path = bench.context().join("tree/f");
    std::fs::remove_file(&path).unwrap();
    bench.write("tree/f", "f\n");
    let file = File::options().write(true).open(&path).unwrap();
    file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).unwrap();
    assert_eq!(bench.build_quiet(&[]), first);
}

#[test]
fn modes_in_the_context_are_part_of_the_image() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY f /f\n").write("f", "f\n");
    let first = bench.build_quiet(&[]);
    std::fs::set_permissions(bench.context().join("f"), PermissionsExt::from_mode(0o755)).unwrap();
    let ran = bench.mica(&["build", "."]).succeeds();
    ran.says(&["1 step ran", "`f`"]);
    assert_ne!(bench.build_quiet(&[]), first);
}

#[test]
fn an_argument_counts_from_where_it_is_declared() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN echo before\nARG WHO=a\nRUN echo $WHO > /who\n");
    bench.build_quiet(&["--build-arg", "WHO=b"]);
    let ran = bench.mica(&["build", "--build-arg", "WHO=c", "-o", "../out", "."]).succeeds();
    ran.says(&["1 step cached, 1 ran", "WHO"]);
    assert_eq!(std::fs::read_to_string(bench.path("out/who")).unwrap(), "c\n");
    let ran = bench.mica(&["build", "--build-arg", "WHO=b", "."]).succeeds();
    ran.says(&["all 2 steps were cached"]);
}

#[test]
fn a_copy_survives_another_base() {
    let bench = Bench::new();
    let base = |text: &str| {
        bench.write("base", text).dockerfile("FROM scratch\nCOPY base /base\n");
        bench.mica(&["build", "-q", "-t", "mine", "."]).succeeds();
    };
    let on_top = "FROM mine\nCOPY app /app/app\n";
    base("1\n");
    bench.write("app", "app\n").dockerfile(on_top).mica(&["build", "."]).succeeds();
    base("2\n");
    bench.dockerfile(on_top);
    let ran = bench.mica(&["build", "-o", "../out", "."]).succeeds();
    ran.says(&["the one step was cached"]);
    assert_eq!(std::fs::read_to_string(bench.path("out/base")).unwrap(), "2\n");
}

#[test]
fn a_failed_step_runs_again() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile(
        "FROM base\nRUN --mount=type=cache,target=/kept test -e /kept/f || { echo x > /kept/f; false; }\n",
    );
    bench.mica(&["build", "."]).exits(1);
    bench.mica(&["build", "."]).succeeds().says(&["1 step ran"]);
}

#[test]
fn the_owner_of_a_linked_copy_is_looked_up_again_where_names_mean_something_else() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY passwd /etc/\nCOPY --link --chown=app f /etc/f\n").write("f", "f\n");
    let owner_with = |id: u32| {
        bench.write("passwd", format!("app:x:{id}:{id}::/:/bin/sh\n"));
        bench.mica(&["build", "-o", "type=oci,dest=../out.tar", "."]).succeeds();
        Image::read(&std::fs::read(bench.path("out.tar")).unwrap()).files["/etc/f"].clone()
    };
    assert_eq!(owner_with(5), "file 0644 5:5 f\n");
    assert_eq!(owner_with(6), "file 0644 6:6 f\n");
    assert_eq!(owner_with(5), "file 0644 5:5 f\n");
}

#[test]
fn a_linked_copy_is_cached_whatever_it_lies_on() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY a /dir/\nCOPY --link b /dir/\n").write("a", "1\n").write("b", "b\n");
    bench.mica(&["build", "."]).succeeds().says(&["2 steps ran"]);
    bench.mica(&["build", "."]).succeeds().says(&["all 2 steps were cached"]);
    bench.write("a", "2\n").mica(&["build", "."]).succeeds().says(&["1 step cached, 1 ran"]);
}

#[test]
fn a_stage_without_files_has_nothing_to_copy() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch AS none\nFROM scratch\nCOPY --from=none /missing /x\n");
    bench.mica(&["build", "."]).exits(1).says(&["`/missing` not found"]);
}

#[test]
fn a_step_that_may_gain_no_privileges_is_another_step() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN grep NoNewPrivs /proc/self/status > /seen\n");
    bench.mica(&["build", "."]).succeeds();
    let ran = bench.mica(&["build", "--no-new-privileges", "-o", "../out", "."]).succeeds();
    ran.says(&["1 step ran"]);
    assert_eq!(std::fs::read_to_string(bench.path("out/seen")).unwrap(), "NoNewPrivs:\t1\n");
}

#[test]
fn the_directory_itself_of_a_mounted_stage_counts() {
    let Some(bench) = Bench::with_base() else { return };
    let with = |mode: &str| {
        bench.dockerfile(&format!(
            "FROM base AS made\nRUN mkdir /d && chmod {mode} /d\nFROM base\n\
             RUN --mount=from=made,source=/d,target=/d stat -c %a /d > /mode\n"
        ));
        let out = format!("../{mode}");
        bench.mica(&["build", "-o", &out, "."]).succeeds();
        std::fs::read_to_string(bench.path(mode).join("mode")).unwrap()
    };
    assert_eq!(with("755"), "755\n");
    assert_eq!(with("711"), "711\n");
}
