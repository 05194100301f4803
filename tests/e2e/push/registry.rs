//! A registry somebody else wrote, Debian's `docker-registry`, and a line to it that breaks.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::has_peer;

/// What the password file has for `user` and `secret`.
const HTPASSWD: &str = "user:$2b$04$v.th1yJ.UmK2YX/g883VpOEnRhFo3qq6k6FT2GB5vVILE6T8JDLNC\n";

/// How the registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// Plain HTTP, with everybody.
    Http,
    /// TLS, with a certificate nobody vouches for.
    Tls,
    /// Plain HTTP, with whoever has the password.
    Password,
}

/// The registry; it ends with the test.
pub(crate) struct DebianRegistry {
    process: Child,
    host: String,
    directory: tempfile::TempDir,
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl DebianRegistry {
    /// Starts an empty one; `None`, said aloud, where it is not installed.
    pub(crate) fn start(speaks: Speaks) -> Option<Self> {
        if !has_peer("docker-registry") || (speaks == Speaks::Tls && !has_peer("openssl")) {
            return None;
        }
        let directory = tempfile::tempdir().expect("there is room for temporary files");
        let path = directory.path();
        let settings = match speaks {
            Speaks::Http => String::new(),
            Speaks::Tls => {
                make_certificate(path);
                "  tls:\n    certificate: cert.pem\n    key: key.pem\n".to_owned()
            }
            Speaks::Password => {
                std::fs::write(path.join("htpasswd"), HTPASSWD).expect("the directory is ours");
                "auth:\n  htpasswd:\n    realm: tests\n    path: htpasswd\n".to_owned()
            }
        };
        // The port is free now and taken again at once.
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback device is there");
        let host = listener.local_addr().expect("it is bound").to_string();
        drop(listener);
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n{settings}",
            path.join("storage").display()
        );
        std::fs::write(path.join("config.yml"), config).expect("the directory is ours");
        let process = Command::new("docker-registry")
            .args(["serve", "config.yml"])
            .current_dir(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it was looked for before");
        let registry = Self { process, host, directory };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(&registry.host).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not answer");
            std::thread::yield_now();
        }
        Some(registry)
    }

    /// Returns its address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the name an image has here.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.host)
    }

    /// Returns where it keeps a blob.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("digests are SHA-256");
        let blobs = self.directory.path().join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// Copies its certificate, which vouches for itself.
    pub(crate) fn save_certificate(&self, path: &Path) {
        std::fs::copy(self.directory.path().join("cert.pem"), path).expect("it speaks TLS");
    }
}

fn make_certificate(directory: &Path) {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test \
                     -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem";
    let made = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .output()
        .expect("it was looked for before");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A line to a registry that is cut a few times, each time after so many bytes in one direction.
pub(crate) struct BrokenLine {
    host: String,
    cuts: Arc<AtomicUsize>,
}

impl BrokenLine {
    /// Lays it; the first `cuts` connections that carry more than `after` bytes break.
    pub(crate) fn to(registry: &DebianRegistry, cuts: usize, after: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback device is there");
        let host = listener.local_addr().expect("it is bound").to_string();
        let cuts = Arc::new(AtomicUsize::new(cuts));
        let (target, left) = (registry.host.clone(), cuts.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&target) else { return };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let ends = (from.try_clone(), to.try_clone());
                    let (Ok(from), Ok(to)) = ends else { return };
                    let left = left.clone();
                    std::thread::spawn(move || carry(from, to, &left, after));
                }
            }
        });
        Self { host, cuts }
    }

    /// Returns the name an image has at its other end.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.host)
    }

    /// Returns how many cuts are still to come.
    pub(crate) fn cuts_left(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, cuts: &AtomicUsize, after: u64) {
    let mut buffer = vec![0; 1 << 16];
    let mut carried = 0;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        carried += count as u64;
        let one_less = |left: usize| left.checked_sub(1);
        if carried > after && cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            break;
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    for end in [from, to] {
        // It may be closed already.
        let _ = end.shutdown(Shutdown::Both);
    }
}
