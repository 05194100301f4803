//! `/etc/resolv.conf` and `/etc/hosts` of a step.

use std::net::IpAddr;

use crate::spec::NetworkMode;

/// Where both helpers answer names; they ask whom the host asks, also on its loopback interface.
pub(super) const NAME_SERVER: &str = "10.0.2.3";
/// More are ignored by the C library.
const MAX_NAME_SERVERS: usize = 3;

/// Returns the step's resolv.conf, made from the host's.
pub(crate) fn resolv_conf(network: NetworkMode, host: &[u8]) -> Vec<u8> {
    match network {
        NetworkMode::None => Vec::new(),
        NetworkMode::Host => host.to_vec(),
        NetworkMode::Private => through_helper(&String::from_utf8_lossy(host)).into_bytes(),
    }
}

fn through_helper(host: &str) -> String {
    let mut lines = vec![format!("nameserver {NAME_SERVER}")];
    lines.extend(
        host.lines().filter(|line| usable_name_server(line)).map(str::to_owned).take(MAX_NAME_SERVERS - 1),
    );
    let settings =
        |line: &&str| matches!(line.split_whitespace().next(), Some("search" | "domain" | "options"));
    lines.extend(host.lines().filter(settings).map(str::to_owned));
    lines.push(String::new());
    lines.join("\n")
}

/// A name server on the host's loopback interface or on a named interface cannot be reached from the step.
fn usable_name_server(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next() == Some("nameserver")
        && words
            .next()
            .and_then(|address| address.parse::<IpAddr>().ok())
            .is_some_and(|address| !address.is_loopback() && !address.is_unspecified())
}

/// Returns the step's hosts file.
pub(crate) fn hosts(hostname: &str, extra: &[(String, IpAddr)]) -> String {
    let mut text = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in extra {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &[u8] = b"# made by x\nnameserver 127.0.0.53\nnameserver 9.9.9.9\nnameserver fe80::1%eth0\n\
        nameserver 2001:db8::1\nnameserver 8.8.8.8\noptions edns0\nsearch lan\n";

    fn text(network: NetworkMode) -> String {
        String::from_utf8(resolv_conf(network, HOST)).unwrap()
    }

    #[test]
    fn a_private_network_asks_the_helper_and_never_the_hosts_loopback() {
        let expect =
            "nameserver 10.0.2.3\nnameserver 9.9.9.9\nnameserver 2001:db8::1\noptions edns0\nsearch lan\n";
        assert_eq!(text(NetworkMode::Private), expect);
    }

    #[test]
    fn the_hosts_network_has_the_hosts_file_and_none_has_nothing() {
        assert_eq!(text(NetworkMode::Host).as_bytes(), HOST);
        assert_eq!(text(NetworkMode::None), "");
    }

    #[test]
    fn extra_hosts_follow_the_usual_ones() {
        let extra = [("db".to_owned(), "10.1.1.1".parse().unwrap())];
        let expect = "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n10.1.1.1\tdb\n";
        assert_eq!(hosts("box", &extra), expect);
    }
}
