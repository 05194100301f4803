//! A tiny root file system from a static busybox, and steps run in it.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};

use mica_executor::{
    Cancel, ExitStatus, IdMode, Launch, Outside, RunSpec, Sandbox, SandboxError, SandboxOptions, Stdio,
    Stream,
};

/// The user the cases are run as a second time.
const USER: &str = "mica-test";

/// The argument with which this program only runs one step that never ends.
pub(crate) const ENDLESS: &str = "--endless";

/// The argument with which this program, in a step, keeps a handle on itself and has a shell write through it.
pub(crate) const OVERWRITE: &str = "--overwrite";

/// Opens this program as a place, becomes a shell, and writes to what was opened: what CVE-2019-5736 did.
pub(crate) fn overwrite_ourselves() -> ExitCode {
    let flags = rustix::fs::OFlags::PATH;
    let handle = rustix::fs::open("/proc/self/exe", flags, rustix::fs::Mode::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&handle);
    // Truncating asks the mount before it asks whether the file is being run, which ours still is.
    let script = format!("echo opened; echo overwritten > /proc/self/fd/{number} && echo wrote");
    let error = Command::new("/bin/sh").args(["-c", &script]).exec();
    eprintln!("cannot become a shell: {error}");
    ExitCode::FAILURE
}

/// What all cases share.
pub(crate) struct World {
    pub(crate) mode: IdMode,
    pub(crate) sandbox: Sandbox,
    pub(crate) outside: Outside,
    pub(crate) base: PathBuf,
    directory: tempfile::TempDir,
    next: AtomicU32,
}

/// A step that ran.
pub(crate) struct Ran {
    pub(crate) result: Result<ExitStatus, SandboxError>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) upper: PathBuf,
}

impl World {
    pub(crate) fn new(mode: IdMode, outside: Outside) -> Result<World, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let base = directory.path().join("base");
        build_base(&base)?;
        let options = SandboxOptions { ids: mode, outside: outside.clone() };
        let sandbox = Sandbox::new(options).map_err(|error| error.to_string())?;
        Ok(World { mode, sandbox, outside, base, directory, next: AtomicU32::new(0) })
    }

    /// Returns an empty directory.
    pub(crate) fn fresh(&self, name: &str) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.path().join(format!("{number}-{name}"));
        std::fs::create_dir(&path).unwrap();
        path
    }

    pub(crate) fn launch(&self) -> Launch {
        let step = self.fresh("step");
        let make = |name: &str| {
            let path = step.join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        Launch {
            lowers: vec![self.base.clone()],
            upper: make("upper"),
            work: make("work"),
            skeleton: make("skeleton"),
            scratch: make("scratch"),
            sources: Default::default(),
            resolv_conf: std::fs::read("/etc/resolv.conf").unwrap_or_default(),
            stdio: Stdio::Captured,
            grace: Launch::GRACE,
        }
    }

    pub(crate) fn run(&self, spec: &RunSpec, launch: Launch) -> Ran {
        self.run_until(spec, launch, &Cancel::new().unwrap())
    }

    pub(crate) fn run_until(&self, spec: &RunSpec, launch: Launch, cancel: &Cancel) -> Ran {
        let upper = launch.upper.clone();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut collect = |stream, bytes: &[u8]| match stream {
            Stream::Stdout => stdout.extend_from_slice(bytes),
            Stream::Stderr => stderr.extend_from_slice(bytes),
        };
        let result = self.sandbox.run(spec, launch, &mut collect, cancel);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { result, stdout: text(stdout), stderr: text(stderr), upper }
    }

    /// Runs a shell script as a usual step and returns what it printed; it must succeed.
    pub(crate) fn sh(&self, script: &str) -> String {
        self.run(&shell(script), self.launch()).expect_success()
    }

    /// Runs a step that writes to `/log` until it is ended, and prints where that is on the host.
    pub(crate) fn run_endless_step(&self) {
        let launch = self.launch();
        println!("{}", launch.upper.join("log").display());
        let script = "trap '' TERM INT HUP; while :; do echo x >> /log; sleep 0.01; done";
        self.run(&shell(script), launch).expect_success();
    }

    /// Runs a shell script over `overlay` on top of the base.
    pub(crate) fn sh_over(&self, layer: PathBuf, script: &str) -> Ran {
        let mut launch = self.launch();
        launch.lowers.insert(0, layer);
        self.run(&shell(script), launch)
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn expect_success(self) -> String {
        match &self.result {
            Ok(status) if status.success() => self.stdout,
            Ok(status) => panic!("{status}\nstdout: {}\nstderr: {}", self.stdout, self.stderr),
            Err(error) => panic!("{error}\nstdout: {}\nstderr: {}", self.stdout, self.stderr),
        }
    }

    #[track_caller]
    pub(crate) fn expect_error(self) -> String {
        self.result.expect_err("the step should not have run").to_string()
    }
}

pub(crate) fn shell(script: &str) -> RunSpec {
    RunSpec::new(["/bin/sh", "-c", script])
}

/// Returns all paths below a directory, sorted, relative to it.
pub(crate) fn tree(directory: &Path) -> Vec<String> {
    fn walk(base: &Path, directory: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(base).unwrap().display().to_string());
            if path.symlink_metadata().unwrap().is_dir() {
                walk(base, &path, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(directory, directory, &mut found);
    found.sort();
    found
}

fn build_base(base: &Path) -> Result<(), String> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| is_static(path));
    let Some(busybox) = busybox else { return Err("no static busybox: install `busybox-static`".to_owned()) };
    let fail = |error: std::io::Error| error.to_string();
    for directory in ["bin", "etc", "tmp", "root", "home/app", "usr/bin"] {
        std::fs::create_dir_all(base.join(directory)).map_err(fail)?;
    }
    std::fs::set_permissions(base.join("tmp"), PermissionsExt::from_mode(0o1777)).map_err(fail)?;
    std::fs::copy(busybox, base.join("bin/busybox")).map_err(fail)?;
    let applets = Command::new(busybox).arg("--list").output().map_err(fail)?.stdout;
    for applet in String::from_utf8_lossy(&applets).lines().filter(|name| *name != "busybox") {
        symlink("busybox", base.join("bin").join(applet)).map_err(fail)?;
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n";
    std::fs::write(base.join("etc/passwd"), passwd).map_err(fail)?;
    std::fs::write(base.join("etc/group"), "root:x:0:\napp:x:1001:\nextra:x:50:app\n").map_err(fail)
}

fn is_static(path: &str) -> bool {
    // A dynamic program names its loader.
    let loader = b"/ld-linux";
    std::fs::read(path)
        .is_ok_and(|bytes| !bytes[..bytes.len().min(4096)].windows(loader.len()).any(|part| part == loader))
}

/// Runs this program again as an ordinary user; returns how many runs failed.
pub(crate) fn again_as_ordinary_user(arguments: &[String]) -> u32 {
    let Some((uid, gid)) = ordinary_user() else {
        eprintln!("SKIPPED the rootless cases: cannot make the user `{USER}`");
        return 0;
    };
    // The build directory may not be reachable for others.
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = directory.path().join("sandbox");
    std::fs::copy("/proc/self/exe", &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    // Its owner could write it: what keeps a step from that is then not the owner.
    std::os::unix::fs::chown(&program, Some(uid), Some(gid)).unwrap();
    let run = |extra: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).args(extra).uid(uid).gid(gid).current_dir("/").env("TMPDIR", "/tmp");
        u32::from(!command.status().is_ok_and(|status| status.success()))
    };
    run(&[]) + run(&["--single"])
}

fn ordinary_user() -> Option<(u32, u32)> {
    if let Some(found) = find_user() {
        return Some(found);
    }
    let made =
        Command::new("useradd").args(["--create-home", USER]).status().is_ok_and(|status| status.success());
    if made { find_user() } else { None }
}

fn find_user() -> Option<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(USER))?;
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields[2].parse().ok()?, fields[3].parse().ok()?))
}
