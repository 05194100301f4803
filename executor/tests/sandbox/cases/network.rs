//! The three kinds of network.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};

use crate::support::{World, shell};
use mica_executor::{NetworkMode, RunSpec, SandboxError};

fn with(network: NetworkMode, script: &str) -> RunSpec {
    RunSpec { network, ..shell(script) }
}

const INTERFACES: &str = "ls /sys/class/net | tr '\\n' ' '";

pub(crate) fn none_has_loopback_only(world: &World) {
    let spec = with(
        NetworkMode::None,
        &format!("{INTERFACES}; ip addr show lo | grep -c 127.0.0.1; wc -c < /etc/resolv.conf | tr -d ' '"),
    );
    assert_eq!(world.run(&spec, world.launch()).expect_success(), "lo 1\n0\n");
}

pub(crate) fn host_shares_the_network(world: &World) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve =
        std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"from the host\n").unwrap());
    let spec = with(NetworkMode::Host, &format!("nc 127.0.0.1 {port} < /dev/null"));
    assert_eq!(world.run(&spec, world.launch()).expect_success(), "from the host\n");
    serve.join().unwrap();
}

pub(crate) fn private_reaches_out_and_not_our_loopback(world: &World) {
    // An address of ours that is not the loopback stands for "outside".
    let Some(address) = own_address() else {
        eprintln!("SKIPPED a case: this machine has no address");
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "{INTERFACES}; for a in 127.0.0.1 10.0.2.2 {address}; do \
         nc -w 1 $a {port} < /dev/null > /dev/null 2>&1 && echo reached $a; done; cat /etc/resolv.conf | head -1; \
         ip route | grep -c default"
    );
    let ran = world.run(&with(NetworkMode::Private, &script), world.launch());
    if let Err(SandboxError::Network(error)) = &ran.result {
        let text = error.to_string();
        assert!(text.contains("install") || text.contains("/dev/net/tun"), "{text}");
        assert!(text.contains("--network=host"), "{text}");
        eprintln!("SKIPPED a case: {text}");
        return;
    }
    let printed = ran.expect_success();
    assert!(!printed.contains("reached"), "{printed}");
    assert!(printed.ends_with("nameserver 10.0.2.3\n1\n"), "{printed}");
    // pasta gives the step our own address, which then is not outside any more.
    let addresses = world.run(&with(NetworkMode::Private, "ip -o addr"), world.launch()).expect_success();
    if !addresses.contains(&format!(" {address}/")) {
        reaches(world, &address);
    }
}

pub(crate) fn private_networks_are_nobody_elses(world: &World) {
    // What an earlier step did on the loopback would be seen in its counters and in what is bound there.
    let script = "readlink /proc/self/ns/net; grep lo: /proc/net/dev | tr -s ' ' | cut -d ' ' -f 4; nc -l -p 7777 < /dev/null & \
        for try in $(seq 100); do nc -w 1 127.0.0.1 7777 < /dev/null && break; sleep 0.05; done && echo one listens";
    let step = || world.run(&with(NetworkMode::Private, script), world.launch());
    let first = step();
    if let Err(SandboxError::Network(error)) = &first.result {
        eprintln!("SKIPPED a case: {error}");
        return;
    }
    // One after the other the next is made in advance; at once each has its own all the same.
    let (second, beside) = std::thread::scope(|scope| {
        let second = step();
        (second, [scope.spawn(step), scope.spawn(step)].map(|step| step.join().unwrap()))
    });
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    for ran in [first, second].into_iter().chain(beside) {
        let printed = ran.expect_success();
        let (namespace, rest) = printed.split_once('\n').unwrap();
        assert_ne!(namespace, ours);
        assert_eq!(rest, "0\none listens\n");
    }
}

/// Connects from a step to a listener on all our addresses.
fn reaches(world: &World, address: &str) {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = std::thread::spawn(move || {
        let mut said = String::new();
        listener.accept().unwrap().0.read_to_string(&mut said).unwrap();
        said
    });
    let script = format!("echo hello | nc -w 2 {address} {port}");
    world.run(&with(NetworkMode::Private, &script), world.launch()).expect_success();
    assert_eq!(serve.join().unwrap(), "hello\n");
}

fn own_address() -> Option<String> {
    // Nothing is sent: connecting only chooses the address.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.99:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then(|| address.to_string())
}

pub(crate) fn extra_hosts_are_known(world: &World) {
    let extra_hosts = vec![("db.internal".to_owned(), "10.9.8.7".parse().unwrap())];
    let spec = RunSpec { extra_hosts, ..shell("grep db.internal /etc/hosts | tr '\\t' ' '") };
    assert_eq!(world.run(&spec, world.launch()).expect_success(), "10.9.8.7 db.internal\n");
}
