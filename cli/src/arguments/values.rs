//! Values of single flags: sizes, limits, hosts, networks, assignments.

use std::net::IpAddr;

use mica_solver::graph::{NetworkMode, Resources};

use super::error::ArgumentError;
use crate::environment::Environment;

const LIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Parses `NAME=VALUE`, or `NAME` whose value is taken from the environment and which is left out when it is not set there.
pub(super) fn assignment(
    flag: &'static str,
    word: &str,
    environment: &dyn Environment,
) -> Result<Option<(String, String)>, ArgumentError> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word, text_variable(word, environment)?),
    };
    if name.is_empty() {
        return Err(ArgumentError::value(flag, word, "the name is missing"));
    }
    Ok(value.map(|value| (name.to_owned(), value)))
}

/// Returns a variable that has to be text.
pub(super) fn text_variable(
    name: &str,
    environment: &dyn Environment,
) -> Result<Option<String>, ArgumentError> {
    let not_text = |value: std::ffi::OsString| ArgumentError::Variable {
        name: name.to_owned(),
        value: value.to_string_lossy().into_owned(),
        why: "it is not valid UTF-8".to_owned(),
    };
    environment.var(name).map(|value| value.into_string().map_err(not_text)).transpose()
}

/// Parses a size such as `64m`, `1.5GiB` or `4096`.
pub(crate) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let exponent = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    let bytes = number * 1024_f64.powi(exponent);
    // Above 2^53 a float no longer holds every integer; nobody asks for that much memory.
    (bytes < 9.0e15).then_some(bytes as u64)
}

/// Parses the value of a size flag.
pub(super) fn size_flag(flag: &'static str, text: &str) -> Result<u64, ArgumentError> {
    size(text).ok_or_else(|| {
        ArgumentError::value(flag, text, "not a size").with_hint("a size looks like `64m`, `1.5g` or `4096`")
    })
}

/// Parses a build's `--network`.
pub(super) fn network_mode(word: &str) -> Result<NetworkMode, ArgumentError> {
    match word {
        "" | "default" => Ok(NetworkMode::Default),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        _ => Err(ArgumentError::value("--network", word, "there is no such network mode")
            .with_hint("the modes are `default`, `none` and `host`")),
    }
}

/// Parses `host:address`, `host=address` or several addresses joined by commas; IPv6 may stand in brackets.
pub(super) fn add_host(word: &str) -> Result<Vec<(String, IpAddr)>, ArgumentError> {
    let invalid = |why: &str| ArgumentError::value("--add-host", word, why);
    let (host, addresses) = word
        .split_once('=')
        .or_else(|| word.split_once(':'))
        .filter(|(host, addresses)| !host.is_empty() && !addresses.is_empty())
        .ok_or_else(|| {
            invalid("not a host and an address")
                .with_hint("it looks like `name:192.0.2.1` or `name=[2001:db8::1]`")
        })?;
    if addresses == "host-gateway" {
        return Err(invalid("there is no gateway to the host without a daemon's network")
            .with_hint("give an address, or use `--network host`"));
    }
    let parse = |address: &str| {
        let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
        let parsed = bare.parse().map_err(|_| invalid(&format!("`{address}` is not an IP address")))?;
        Ok((host.to_owned(), parsed))
    };
    addresses.split(',').map(parse).collect()
}

/// Checks `name=soft[:hard]` and returns it with both limits.
pub(super) fn ulimit(word: &str) -> Result<String, ArgumentError> {
    let invalid = |why: String| ArgumentError::value("--ulimit", word, why);
    let (name, limits) = word.split_once('=').ok_or_else(|| {
        invalid("not a limit".to_owned()).with_hint("a limit looks like `nofile=1024` or `nofile=1024:4096`")
    })?;
    if !LIMITS.contains(&name) {
        return Err(invalid(format!("there is no limit named `{name}`"))
            .with_hint(format!("the limits are {}", LIMITS.join(", "))));
    }
    let number = |text: &str| text.parse::<i64>().map_err(|_| invalid(format!("`{text}` is not a number")));
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(invalid(format!("the soft limit {soft} is above the hard limit {hard}")));
    }
    Ok(format!("{name}={soft}:{hard}"))
}

/// Applies one `name=value` of `--resource`; the older flags of the same names come here too.
pub(super) fn set_resource(
    resources: &mut Resources,
    flag: &'static str,
    name: &str,
    value: &str,
) -> Result<(), ArgumentError> {
    let invalid = |why: &str| ArgumentError::value(flag, value, why);
    let whole = || value.parse::<i64>().map_err(|_| invalid("not a whole number"));
    let natural = || value.parse::<u64>().map_err(|_| invalid("not a whole number of 0 or more"));
    let bytes = || size_flag(flag, value);
    match name {
        "memory" => resources.memory = above_zero(bytes()?),
        "memory-swap" if value == "-1" => resources.memory_swap = Some(-1),
        "memory-swap" => resources.memory_swap = above_zero(bytes()?.cast_signed()),
        "cpu-shares" => resources.cpu_shares = above_zero(natural()?),
        "cpu-period" => resources.cpu_period = above_zero(natural()?),
        "cpu-quota" => resources.cpu_quota = above_zero(whole()?),
        "cpuset-cpus" => resources.cpuset_cpus = cpu_set(flag, value)?,
        "cpuset-mems" => resources.cpuset_mems = cpu_set(flag, value)?,
        _ => {
            return Err(ArgumentError::value(flag, format!("{name}={value}"), format!("there is no resource `{name}`"))
                .with_hint(
                    "the resources are memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus and cpuset-mems",
                ));
        }
    }
    Ok(())
}

/// Zero, and a negative quota, ask for no limit.
fn above_zero<T: PartialOrd + Default>(value: T) -> Option<T> {
    (value > T::default()).then_some(value)
}

fn cpu_set(flag: &'static str, value: &str) -> Result<Option<String>, ArgumentError> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_range = |part: &str| match part.split_once('-') {
        Some((first, last)) => is_number(first) && is_number(last),
        None => is_number(part),
    };
    match value {
        "" => Ok(None),
        _ if value.split(',').all(is_range) => Ok(Some(value.to_owned())),
        _ => Err(ArgumentError::value(flag, value, "not a set of processors")
            .with_hint("a set looks like `0-3` or `0,2`")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;
    use std::path::PathBuf;

    use super::*;

    /// An environment of its own for tests.
    pub(crate) struct Fake(BTreeMap<String, OsString>);

    impl Fake {
        pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
            Self(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect())
        }
    }

    impl Environment for Fake {
        fn var(&self, name: &str) -> Option<OsString> {
            self.0.get(name).cloned()
        }

        fn current_dir(&self) -> PathBuf {
            PathBuf::from("/here")
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            ("4096", Some(4096)),
            ("64m", Some(64 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("2 kb", Some(2048)),
            ("1B", Some(1)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1q", None),
            ("1e30", None),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn hosts() {
        let cases = [
            ("db:192.0.2.1", "db 192.0.2.1"),
            ("db=192.0.2.1", "db 192.0.2.1"),
            ("db:2001:db8::1", "db 2001:db8::1"),
            ("db=[::1]", "db ::1"),
            ("db=192.0.2.1,[::1]", "db 192.0.2.1 db ::1"),
            ("db", "`--add-host db`: not a host and an address"),
            ("=1.2.3.4", "`--add-host =1.2.3.4`: not a host and an address"),
            ("db:x", "`--add-host db:x`: `x` is not an IP address"),
            (
                "db:host-gateway",
                "`--add-host db:host-gateway`: there is no gateway to the host without a daemon's network",
            ),
        ];
        for (word, expected) in cases {
            let shown = match add_host(word) {
                Ok(hosts) => {
                    hosts.iter().map(|(host, ip)| format!("{host} {ip}")).collect::<Vec<_>>().join(" ")
                }
                Err(error) => error.to_string(),
            };
            assert_eq!(shown, expected, "{word}");
        }
    }

    #[test]
    fn ulimits() {
        let cases = [
            ("nofile=1024", "nofile=1024:1024"),
            ("nofile=1024:4096", "nofile=1024:4096"),
            ("core=-1", "core=-1:-1"),
            ("nofile", "`--ulimit nofile`: not a limit"),
            ("files=1", "`--ulimit files=1`: there is no limit named `files`"),
            ("nofile=x", "`--ulimit nofile=x`: `x` is not a number"),
            ("nofile=9:1", "`--ulimit nofile=9:1`: the soft limit 9 is above the hard limit 1"),
            ("nofile=-1:1", "`--ulimit nofile=-1:1`: the soft limit -1 is above the hard limit 1"),
        ];
        for (word, expected) in cases {
            assert_eq!(ulimit(word).unwrap_or_else(|error| error.to_string()), expected);
        }
    }

    #[test]
    fn resources() {
        let mut made = Resources::default();
        let set = [
            ("memory", "1g"),
            ("memory-swap", "-1"),
            ("cpu-shares", "512"),
            ("cpu-period", "100000"),
            ("cpu-quota", "50000"),
            ("cpuset-cpus", "0-1,3"),
            ("cpuset-mems", "0"),
        ];
        for (name, value) in set {
            set_resource(&mut made, "--resource", name, value).unwrap();
        }
        let expected = Resources {
            memory: Some(1 << 30),
            memory_swap: Some(-1),
            cpu_shares: Some(512),
            cpu_period: Some(100_000),
            cpu_quota: Some(50_000),
            cpuset_cpus: Some("0-1,3".to_owned()),
            cpuset_mems: Some("0".to_owned()),
        };
        assert_eq!(made, expected);
        set_resource(&mut made, "--resource", "memory", "0").unwrap();
        assert_eq!(made.memory, None);
        for (name, value) in [("memory", "x"), ("cpu-shares", "-1"), ("cpuset-cpus", "a"), ("disk", "1g")] {
            assert!(set_resource(&mut made, "--resource", name, value).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn assignments_without_a_value_come_from_the_environment() {
        let environment = Fake::with(&[("SET", "x=y")]);
        let made = |word| assignment("--build-arg", word, &environment);
        assert_eq!(made("A=b=c").unwrap(), Some(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(made("A=").unwrap(), Some(("A".to_owned(), String::new())));
        assert_eq!(made("SET").unwrap(), Some(("SET".to_owned(), "x=y".to_owned())));
        assert_eq!(made("UNSET").unwrap(), None);
        assert!(made("=x").is_err());
    }
}
