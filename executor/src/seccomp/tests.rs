//! The filters are run in a small interpreter of the kernel's instructions.

use super::assemble::{Section, Verdict, assemble};
use super::*;

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;

fn errno(errno: i32) -> u32 {
    0x0005_0000 | errno as u32
}

/// Runs a program on one call.
fn evaluate(program: &[u64], architecture: u32, number: u32, argument: u64) -> u32 {
    let mut data = [0u8; 64];
    data[0..4].copy_from_slice(&number.to_ne_bytes());
    data[4..8].copy_from_slice(&architecture.to_ne_bytes());
    data[16..24].copy_from_slice(&argument.to_ne_bytes());
    let (mut accumulator, mut at) = (0u32, 0usize);
    loop {
        let word = program[at];
        let (code, if_true, if_false, operand) =
            ((word >> 48) as u16, (word >> 40) as u8 as usize, (word >> 32) as u8 as usize, word as u32);
        at += 1;
        let jump = |condition: bool| if condition { if_true } else { if_false };
        match code {
            0x20 => {
                let offset = operand as usize;
                accumulator = u32::from_ne_bytes(data[offset..offset + 4].try_into().unwrap());
            }
            0x05 => at += operand as usize,
            0x15 => at += jump(accumulator == operand),
            0x35 => at += jump(accumulator >= operand),
            0x45 => at += jump(accumulator & operand != 0),
            0x06 => return operand,
            _ => panic!("instruction {code:#x}"),
        }
    }
}

fn filter_for(architecture: &Architecture) -> Vec<u64> {
    let profile = Profile::new();
    let mut section = Section::new(architecture.audit, Verdict::Errno(NO_SUCH_CALL));
    for (number, name) in architecture.calls() {
        section.add(number, profile.verdict(architecture, name));
    }
    assemble(&[section])
}

fn by_name(architecture: u32, name: &str) -> (Vec<u64>, u32) {
    let architecture = tables::ALL.iter().find(|known| known.audit == architecture).unwrap();
    let number = architecture.calls().find(|(_, known)| *known == name).unwrap().0;
    (filter_for(architecture), number)
}

fn check(architecture: u32, name: &str, argument: u64, expect: u32) {
    let (program, number) = by_name(architecture, name);
    assert_eq!(evaluate(&program, architecture, number, argument), expect, "{name} on {architecture:#x}");
}

#[test]
fn every_call_of_every_architecture_gets_its_verdict() {
    let profile = Profile::new();
    for architecture in tables::ALL {
        let program = filter_for(architecture);
        for (number, name) in architecture.calls() {
            let expect = match profile.verdict(architecture, name) {
                Verdict::Allow | Verdict::CheckClone | Verdict::CheckPersonality | Verdict::CheckSocket => {
                    ALLOW
                }
                Verdict::Errno(code) => errno(code.into()),
            };
            assert_eq!(evaluate(&program, architecture.audit, number, 0), expect, "{name}");
        }
    }
}

#[test]
fn tables_are_in_order_and_name_each_call_once() {
    for architecture in tables::ALL {
        let calls: Vec<_> = architecture.calls().collect();
        assert!(calls.is_sorted_by(|one, next| one.0 < next.0));
        let names: std::collections::BTreeSet<_> = calls.iter().map(|(_, name)| name).collect();
        assert_eq!(names.len(), calls.len());
    }
}

#[test]
fn calls_every_program_makes_are_allowed_and_those_of_the_host_are_not() {
    for architecture in [X86_64, I386, AARCH64] {
        for name in ["read", "execve", "openat", "fchownat", "futex", "mknodat", "ptrace", "statx", "chroot"]
        {
            check(architecture, name, 0, ALLOW);
        }
        for name in [
            "mount",
            "umount2",
            "unshare",
            "setns",
            "reboot",
            "init_module",
            "kexec_load",
            "bpf",
            "keyctl",
            "add_key",
            "open_by_handle_at",
            "perf_event_open",
            "io_uring_setup",
            "pivot_root",
            "move_mount",
            "userfaultfd",
            "sethostname",
            "clock_settime",
            "acct",
            "swapon",
            "quotactl",
            "name_to_handle_at",
        ] {
            let expect = if name == "name_to_handle_at" { ALLOW } else { errno(libc::EPERM) };
            check(architecture, name, 0, expect);
        }
    }
}

#[test]
fn arguments_decide_where_a_call_has_a_dangerous_form() {
    check(X86_64, "clone", libc::SIGCHLD as u64, ALLOW);
    check(X86_64, "clone", libc::CLONE_NEWUSER as u64, errno(libc::EPERM));
    check(AARCH64, "clone", libc::CLONE_NEWNS as u64 | 17, errno(libc::EPERM));
    check(I386, "clone3", 0, errno(libc::ENOSYS));
    check(X86_64, "socket", libc::AF_INET as u64, ALLOW);
    check(X86_64, "socket", libc::AF_PACKET as u64, ALLOW);
    check(X86_64, "socket", libc::AF_VSOCK as u64, errno(libc::EPERM));
    check(X86_64, "socket", libc::AF_ALG as u64, errno(libc::EPERM));
    check(X86_64, "personality", 0xffff_ffff, ALLOW);
    check(X86_64, "personality", 0x0004_0000, errno(libc::EPERM));
}

#[test]
fn bits_the_kernel_ignores_cannot_smuggle_an_argument() {
    check(X86_64, "socket", 1 << 32 | libc::AF_VSOCK as u64, errno(libc::EPERM));
    check(X86_64, "clone", 1 << 40 | libc::CLONE_NEWUSER as u64, errno(libc::EPERM));
}

#[test]
fn unknown_numbers_look_like_an_old_kernel_and_unknown_architectures_are_killed() {
    let (program, _) = by_name(X86_64, "read");
    for number in [400, 470, 100_000, 0x4000_0000, u32::MAX] {
        assert_eq!(evaluate(&program, X86_64, number, 0), errno(libc::ENOSYS), "{number}");
    }
    assert_eq!(evaluate(&program, 0xdead, 0, 0), KILL);
}

#[test]
fn the_filter_of_this_machine_stays_small() {
    // Some 800 numbers of two architectures; more instructions than this mean that they are no longer merged.
    assert!(default_filter().len() < 450, "{}", default_filter().len());
}

#[test]
fn owners_are_pretended_and_nothing_else() {
    let program = pretend_owners_filter();
    let native = &ARCHITECTURES[0];
    for (number, name) in native.calls() {
        let expect = match name {
            "fchown" | "fchownat" | "setgroups" | "setuid" | "setresuid" => errno(0),
            "chmod" | "capset" | "execve" | "getuid" | "mount" => ALLOW,
            _ => continue,
        };
        assert_eq!(evaluate(program, native.audit, number, 0), expect, "{name}");
    }
    assert_eq!(evaluate(program, native.audit, 100_000, 0), ALLOW);
}

/// What differs from the profile that container engines ship, so that a change is deliberate.
#[test]
fn differences_from_the_common_profile_are_these() {
    let architecture = &tables::ALL[0];
    let refused =
        |name: &str| matches!(Profile::new().verdict(architecture, name), Verdict::Errno(code) if code != 0);
    // There too for programs without CAP_SYS_ADMIN, CAP_SYS_NICE, CAP_SYSLOG and CAP_DAC_READ_SEARCH.
    assert!(["mbind", "set_mempolicy", "get_mempolicy", "syslog", "fanotify_init"].into_iter().all(refused));
    // Ours alone: numbers between known ones are unknown as well, not refused; high halves of arguments are ignored.
    let (program, _) = by_name(X86_64, "read");
    assert_eq!(evaluate(&program, X86_64, 400, 0), errno(libc::ENOSYS));
}
