//! Bases whose every place that a sandbox touches is something else: RUN in them stays inside, or is refused.

use crate::bench::Bench;
use crate::hostile_images::layout;
use crate::raw_tar::{CHARACTER_DEVICE, DIRECTORY, FIFO, HARD_LINK, Raw, SYMLINK};

/// Where a sandbox mounts, writes, reads or goes to.
const PLACES: [&str; 20] = [
    "etc",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/hostname",
    "etc/passwd",
    "etc/group",
    "dev",
    "dev/null",
    "dev/pts",
    "dev/shm",
    "proc",
    "sys",
    "tmp",
    "root",
    "run",
    "run/secrets",
    "work",
    "cache",
    "bound",
    "fresh",
];

/// Each of its lines goes through a place; what can be read of it is in `/found`.
const DOCKERFILE: &str = r#"FROM evil.example/image:1 AS base
WORKDIR /work/deeper
USER 0:nobody
RUN --mount=type=cache,target=/cache --mount=type=secret,id=token --mount=type=bind,target=/bound,rw --mount=type=tmpfs,target=/fresh <<'SCRIPT'
timeout 2 sh -c 'for place in etc etc/hosts etc/resolv.conf etc/hostname etc/passwd etc/group dev dev/null dev/pts dev/shm proc sys tmp root run run/secrets work cache bound fresh; do
    cat /$place /$place/secret /$place/directory/* >> /found
    echo evil > /$place; echo evil > /$place/secret; mkdir /$place/new; chmod 777 /$place; chown 7 /$place; rm -r /$place/directory
done' 2>/dev/null </dev/null
true
SCRIPT
WORKDIR /work
COPY Dockerfile /cache/deeper/
COPY Dockerfile /etc/hosts
FROM scratch
COPY --from=base /found* /
"#;

/// A layer with a shell.
fn shell(busybox: &[u8]) -> Vec<u8> {
    let raw = Raw::default().member("bin", DIRECTORY, "").file("bin/busybox", busybox);
    let names = ["sh", "cat", "echo", "mkdir", "chmod", "chown", "rm", "timeout", "true"];
    names.iter().fold(raw, |raw, name| raw.member(&format!("bin/{name}"), SYMLINK, "busybox")).end()
}

/// Puts something at a place of a layer.
type Shape = Box<dyn Fn(Raw, &str) -> Raw>;

/// What stands at a place, by name.
fn forms(bench: &Bench) -> Vec<(String, Shape)> {
    let outside = bench.path("outside").to_str().unwrap().to_owned();
    let up = format!("{}{}", "../".repeat(40), outside.trim_start_matches('/'));
    let links = [
        outside.clone(),
        format!("{outside}/secret"),
        format!("{outside}/missing"),
        up,
        format!("/proc/self/root{outside}"),
        format!("/proc/1/cwd/../..{outside}"),
        "loop".to_owned(),
    ];
    let mut forms: Vec<(String, Shape)> = Vec::new();
    for target in links {
        let name = format!("a link to {target}");
        let target = if target == "loop" { None } else { Some(target) };
        forms.push((
            name,
            Box::new(move |raw, place| {
                let own = place.rsplit('/').next().unwrap_or(place);
                raw.member(place, SYMLINK, target.as_deref().unwrap_or(own))
            }),
        ));
    }
    let secret = bench.secret();
    forms.push(("a file".to_owned(), Box::new(|raw, place| raw.file(place, b"root:x:0:0::/work:/bin/sh\n"))));
    forms.push(("a pipe".to_owned(), Box::new(|raw, place| raw.member(place, FIFO, ""))));
    forms.push(("a device".to_owned(), Box::new(|raw, place| raw.member(place, CHARACTER_DEVICE, ""))));
    forms.push((
        "a hard link to outside".to_owned(),
        Box::new(move |raw, place| raw.member(place, HARD_LINK, &secret)),
    ));
    forms
}

#[test]
fn run_stays_inside_whatever_its_base_is() {
    let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok())
    else {
        return skip("no static busybox");
    };
    let shell = shell(&busybox);
    let failed: Vec<String> = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let shell = &shell;
            scope.spawn(move || try_half(shell, half))
        });
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{failed:#?}");
}

#[expect(clippy::disallowed_methods, reason = "who runs the tests says there what must not be missing")]
fn skip(why: &str) {
    assert!(std::env::var_os("MICA_REQUIRE_SANDBOX").is_none(), "{why}");
    eprintln!("SKIPPED: {why}");
}

/// Tries every other case and returns those that failed.
fn try_half(shell: &[u8], half: usize) -> Vec<String> {
    let bench = Bench::new();
    bench.write("Dockerfile", DOCKERFILE);
    bench.write("secret", "a file of the context");
    bench.write("directory/x", "another");
    let build = ["build", "-o", "../out", "--secret", "id=token,src=Dockerfile", "."];
    // An honest base shows whether there are sandboxes here, and that the script does what it says.
    let honest = Raw::default().member("etc", DIRECTORY, "").file("etc/passwd", b"root:x:0:0::/:/bin/sh\n");
    load(&bench, &[shell, &honest.file("etc/group", b"nobody:x:9:\n").end()]);
    let ran = bench.mica(&build);
    if ran.code != Some(0) {
        skip(&ran.stderr);
        return Vec::new();
    }
    assert!(std::fs::read_to_string(bench.path("out/found")).unwrap().contains("another"));
    let (forms, mut failed, mut built) = (forms(&bench), Vec::new(), 0);
    let cases = forms.iter().flat_map(|form| PLACES.map(|place| (form, place)));
    for ((form, shape), place) in cases.skip(half).step_by(2) {
        let name = format!("`{place}` is {form}");
        let tried = std::panic::AssertUnwindSafe(|| {
            let parents = Raw::default().member("etc", DIRECTORY, "");
            let group = |raw: Raw| raw.file("etc/group", b"nobody:x:9:\n");
            let raw = match place {
                "etc" => Raw::default(),
                "etc/group" => parents,
                _ => group(parents),
            };
            if load(&bench, &[shell, &shape(raw, place).end()]) {
                let ran = bench.mica(&build);
                ran.is_an_answer(&name);
                built += usize::from(ran.code == Some(0));
            }
            bench.is_unharmed(&name);
        });
        if std::panic::catch_unwind(tried).is_err() {
            failed.push(name);
        }
    }
    // Most are harmless once nothing leads out of them.
    assert!(built > 40, "only {built} ran");
    failed
}

/// Loads an image of these layers; what is refused is not there to be run in.
fn load(bench: &Bench, layers: &[&[u8]]) -> bool {
    std::fs::write(bench.path("image.tar"), layout(layers)).unwrap();
    let ran = bench.mica(&["load", "-i", "../image.tar"]);
    ran.is_an_answer("load");
    ran.code == Some(0)
}
