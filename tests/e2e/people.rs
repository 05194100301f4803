//! The same builds as an ordinary user, with a range of subordinate ids and with a single id.

use std::path::PathBuf;

use crate::support::{Bench, Image, Person, Ran};

const OWNERS: &str = "FROM base\n\
    RUN id -u > /who && touch /mine && mkdir -p /srv/app && chown 1000:1001 /srv/app\n\
    COPY --chown=app:app f /srv/app/f\n\
    USER app\n\
    RUN id -u > /srv/app/id && test ! -w /etc/passwd\n";

fn image(bench: &Bench) -> (Ran, Image) {
    bench.dockerfile(OWNERS).write("f", "f\n");
    let ran = bench.mica(&["build", "-t", "app", "-o", "type=oci,dest=../home/out.tar", "."]).succeeds();
    let image = Image::read(&std::fs::read(bench.path("home/out.tar")).unwrap());
    (ran, image)
}

#[test]
fn an_ordinary_user_makes_the_layers_that_root_makes() {
    let Some(mine) = Bench::with_base() else { return };
    let Some(theirs) = Bench::with_base_for(Person::Ordinary) else { return };
    let (_, expected) = image(&mine);
    let (ran, image) = image(&theirs);
    ran.says_not("warning");
    assert_eq!(image.files, expected.files);
    assert_eq!(image.layers, expected.layers);
    assert_eq!(image.files["/srv/app"], "dir 0755 1000:1001");
    assert_eq!(image.files["/srv/app/id"], "file 0644 1000:1001 1000\n");
    assert_eq!(theirs.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn an_ordinary_users_second_build_is_cached() {
    let Some(bench) = Bench::with_base_for(Person::Ordinary) else { return };
    image(&bench);
    bench.mica(&["build", "."]).succeeds().says(&["all 3 steps were cached"]);
}

#[test]
fn an_ordinary_user_runs_images() {
    let Some(bench) = Bench::with_base_for(Person::Ordinary) else { return };
    image(&bench);
    let ran = bench.mica(&["run", "--rm", "app", "sh", "-c", "id -u; cat /srv/app/f; exit 5"]).exits(5);
    assert_eq!(ran.stdout, "1000\nf\n");
    let ran = bench.mica(&["run", "--rm", "-u", "0", "app", "id", "-u"]).succeeds();
    assert_eq!(ran.stdout, "0\n");
}

#[test]
fn an_ordinary_users_interrupted_build_leaves_nothing() {
    let Some(bench) = Bench::with_base_for(Person::Ordinary) else { return };
    bench.dockerfile(
        "FROM base\nRUN mkdir /d && chown 1000 /d && chmod 700 /d; echo started; sleep 86421.5\n",
    );
    let mut build = bench.start_build(&[]);
    build.wait_for_output("started");
    build.signal(rustix::process::Signal::INT);
    assert_eq!(build.end().0, Some(130));
    crate::support::wait_until("no process is left", || {
        crate::support::processes_saying("sleep 86421.5").is_empty()
    });
    assert_eq!(bench.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn a_single_id_is_said_and_keeps_owners_in_the_image() {
    let Some(bench) = Bench::with_base_for(Person::SingleId) else { return };
    bench.dockerfile(
        "FROM base\nRUN id -u > /who && mkdir /made && echo made > /made/f\nCOPY --chown=3:4 f /f\n",
    );
    bench.write("f", "f\n");
    let arguments = ["build", "-t", "app", "-o", "type=oci,dest=../home/out.tar", "."];
    let ran = bench.mica(&arguments).succeeds();
    assert_eq!(ran.stderr.matches("warning: all files belong to one user").count(), 1, "{}", ran.stderr);
    let image = Image::read(&std::fs::read(bench.path("home/out.tar")).unwrap());
    assert_eq!(image.files["/who"], "file 0644 0:0 0\n");
    assert_eq!(image.files["/made/f"], "file 0644 0:0 made\n");
    assert_eq!(image.files["/f"], "file 0644 3:4 f\n");
    assert_eq!(image.files["/home/app"], "dir 0750 1000:1001");
    bench.mica(&["build", "."]).succeeds().says(&["all 2 steps were cached"]);
    let ran = bench.mica(&["run", "--rm", "app", "cat", "/made/f"]).succeeds();
    assert_eq!(ran.stdout, "made\n");
}
